// Package fault gives an error three readers: machines read its Code, people read its message in their language
// (found by Key in package lang, with a hint under Key+".hint"), and the log reads its cause.
//
// Everything below a door returns faults for what a person can mend; each door translates the Code into its own
// terms (an HTTP status, an exit code, a socket frame).
package fault

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Code says what kind of failure it is, in words a program can act on.
type Code string

// The codes. Retrying the same request can help for Unavailable and RateLimited only.
const (
	Invalid         Code = "invalid"         // the input is wrong; say it differently
	Unauthenticated Code = "unauthenticated" // sign in first
	Forbidden       Code = "forbidden"       // known, but not allowed
	NotFound        Code = "not_found"       // no such thing, or not for these eyes
	Conflict        Code = "conflict"        // true when asked, but something else came first
	TooLarge        Code = "too_large"       // over a limit that the message names
	RateLimited     Code = "rate_limited"    // too often; wait
	Unavailable     Code = "unavailable"     // a part is away (database, disk); nothing was lost, try again
	Internal        Code = "internal"        // our mistake
)

// Args are the values that a message names, by the names used in the catalog.
type Args map[string]any

// Fault is an error for people and machines. Key is without the "fault." prefix that it has in the catalog.
type Fault struct {
	Code Code
	Key  string
	Args Args
	Err  error // the cause, for the log; never shown to people
}

// New makes a fault. Its text is "fault."+key in the catalogs; a test fails when a language lacks it.
func New(code Code, key string, args ...Args) *Fault {
	f := &Fault{Code: code, Key: key}
	if len(args) > 0 {
		f.Args = args[0]
	}
	return f
}

// Wrap is New with a cause.
func Wrap(err error, code Code, key string, args ...Args) *Fault {
	f := New(code, key, args...)
	f.Err = err
	return f
}

// Error is for the log: code, key, sorted arguments, cause.
func (f *Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Code, f.Key)
	names := make([]string, 0, len(f.Args))
	for name := range f.Args {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%v", name, f.Args[name])
	}
	if f.Err != nil {
		fmt.Fprintf(&b, ": %v", f.Err)
	}
	return b.String()
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Of finds the fault in err's chain. Any other error is an Internal fault with err as its cause; nil stays nil.
func Of(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return Wrap(err, Internal, "internal")
}

// Is tells whether err is a fault of this code.
func Is(err error, code Code) bool { return err != nil && Of(err).Code == code }

// HasKey tells whether err is this very fault.
func HasKey(err error, key string) bool { return err != nil && Of(err).Key == key }

package cluster

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const (
	exeSuffix  = ".exe"
	hasSockets = false
	// utf8Ctype: PostgreSQL converts to UTF-16 and asks Windows itself for UTF-8 databases.
	utf8Ctype = "C"
)

// taken: on Windows any process counts.
func taken(int) bool { return true }

// detach gives the command a hidden console and a process group of its own: Ctrl-C and closing our window pass PostgreSQL by.
// An administrator's rights are taken from it first, because postgres.exe refuses them
// (https://www.postgresql.org/docs/current/app-postgres.html; pg_ctl does the same for the server it starts).
func detach(cmd *exec.Cmd, _ *Account) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		HideWindow:    true,
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW,
	}
	if !powerful() {
		return nil
	}
	token, err := restrictedToken()
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Token = token
	return nil
}

// powerful tells whether postgres.exe would refuse to run as we are: it asks for these two groups (pgwin32_is_admin in src/port/win32security.c). An
// administrator whose rights Windows holds back until he confirms has them for denials only, and is none.
func powerful() bool {
	for _, group := range []windows.WELL_KNOWN_SID_TYPE{windows.WinBuiltinAdministratorsSid, windows.WinBuiltinPowerUsersSid} {
		sid, err := windows.CreateWellKnownSid(group)
		if err != nil {
			continue
		}
		if member, err := windows.Token(0).IsMember(sid); err != nil || member { // 0: as who this thread acts
			return true
		}
	}
	return false
}

// NativePath is a path as PostgreSQL's programs can take it. They ask Windows in its 8-bit code page, which has not the letters of all scripts, and take
// what stands in their settings as bytes of it; so folders whose names are not plain ASCII go by their short names ("C:\\Users\\4E2D~1"). What has none,
// because the volume keeps no short names, stays as it is.
func NativePath(path string) string {
	if isASCII(path) || !filepath.IsAbs(path) {
		return path
	}
	head, tail := path, "" // only what exists has a short name
	for {
		if short, err := shortPath(head); err == nil {
			return filepath.Join(short, tail)
		}
		if head == filepath.Dir(head) {
			return path
		}
		head, tail = filepath.Dir(head), filepath.Join(filepath.Base(head), tail)
	}
}

func shortPath(path string) (string, error) {
	long, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return "", err
	}
	for size := uint32(windows.MAX_PATH); ; {
		short := make([]uint16, size)
		n, err := windows.GetShortPathName(long, &short[0], size)
		if err != nil {
			return "", err
		}
		if n < size {
			return windows.UTF16ToString(short[:n]), nil
		}
		size = n
	}
}

// unusable tells whether PostgreSQL's programs could not find what lies at a path.
func unusable(path string) bool { return !isASCII(NativePath(path)) }

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

var createRestrictedToken = windows.NewLazySystemDLL("advapi32.dll").NewProc("CreateRestrictedToken")

// restrictedToken is our own token without the groups Administrators and Power Users and without privileges. What it makes
// must stay open to the user himself, which the default of an administrator's token (Administrators only) does not give.
var restrictedToken = sync.OnceValues(func() (syscall.Token, error) {
	const disableMaxPrivilege = 0x1
	var own windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ALL_ACCESS, &own); err != nil {
		return 0, err
	}
	defer own.Close()
	admins, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return 0, err
	}
	power, err := windows.CreateWellKnownSid(windows.WinBuiltinPowerUsersSid)
	if err != nil {
		return 0, err
	}
	drop := [2]windows.SIDAndAttributes{{Sid: admins}, {Sid: power}}
	var made windows.Token
	ok, _, callErr := createRestrictedToken.Call(uintptr(own), disableMaxPrivilege, uintptr(len(drop)),
		uintptr(unsafe.Pointer(&drop[0])), 0, 0, 0, 0, uintptr(unsafe.Pointer(&made)))
	if ok == 0 {
		return 0, callErr
	}
	user, err := own.GetTokenUser()
	if err != nil {
		return 0, err
	}
	acl, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{
		{AccessPermissions: windows.GENERIC_ALL, AccessMode: windows.GRANT_ACCESS,
			Trustee: windows.TRUSTEE{TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeValue: windows.TrusteeValueFromSID(user.User.Sid)}},
		{AccessPermissions: windows.GENERIC_ALL, AccessMode: windows.GRANT_ACCESS,
			Trustee: windows.TRUSTEE{TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeValue: windows.TrusteeValueFromSID(admins)}},
	}, nil)
	if err != nil {
		return 0, err
	}
	info := struct{ acl *windows.ACL }{acl} // TOKEN_DEFAULT_DACL
	if err := windows.SetTokenInformation(made, windows.TokenDefaultDacl, (*byte)(unsafe.Pointer(&info)),
		uint32(unsafe.Sizeof(info))); err != nil {
		return 0, err
	}
	return syscall.Token(made), nil
})

// isRoot: Windows has no root, and detach takes an administrator's rights away.
func isRoot() bool { return false }

func ownerOf(fs.FileInfo) int { return -1 }

func barrier(string, *Account) string { return "" }

func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

// registered are the folders of programs that PostgreSQL's installer has noted in the registry.
func registered() []string {
	all, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\PostgreSQL\Installations`, registry.ENUMERATE_SUB_KEYS|registry.WOW64_64KEY)
	if err != nil {
		return nil
	}
	defer all.Close()
	names, _ := all.ReadSubKeyNames(-1)
	var bins []string
	for _, name := range names {
		one, err := registry.OpenKey(all, name, registry.QUERY_VALUE|registry.WOW64_64KEY)
		if err != nil {
			continue
		}
		if base, _, err := one.GetStringValue("Base Directory"); err == nil && base != "" {
			bins = append(bins, filepath.Join(base, "bin"))
		}
		_ = one.Close()
	}
	return bins
}

// Rename is os.Rename, but waits for those who have something of it open at the moment: programs of PostgreSQL that outlive their server for an instant and stand in its
// folder, a process of ours that reads the file, a virus scanner. Windows refuses meanwhile.
func Rename(from, to string) error {
	return whenFree(func() error { return os.Rename(from, to) })
}

// Remove is os.Remove, with the patience of Rename.
func Remove(name string) error {
	return whenFree(func() error { return os.Remove(name) })
}

// ReadFile is os.ReadFile, but waits while the file is exchanged for another: Windows refuses whoever opens it meanwhile.
func ReadFile(name string) (raw []byte, err error) {
	_ = whenFree(func() error {
		if raw, err = os.ReadFile(name); errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
			return err
		}
		return nil // that it may not be read is no matter of waiting
	})
	return raw, err
}

func whenFree(change func() error) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for began := time.Now(); ; <-again.C {
		err := change()
		inUse := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
		if !inUse || time.Since(began) > time.Minute {
			return err
		}
	}
}

// syncDir: Windows has no such call; NTFS journals its directories.
func syncDir(string) error { return nil }

func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// open holds the process if it is postgres.exe and began about when the lock file says.
func open(pid int, started time.Time) (windows.Handle, bool) {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return 0, false
	}
	var created, exited, kernel, user windows.Filetime
	if windows.GetProcessTimes(h, &created, &exited, &kernel, &user) == nil {
		name := make([]uint16, windows.MAX_LONG_PATH)
		size := uint32(len(name))
		gap := time.Unix(0, created.Nanoseconds()).Sub(started)
		state, waitErr := windows.WaitForSingleObject(h, 0)
		if windows.QueryFullProcessImageName(h, 0, &name[0], &size) == nil &&
			strings.EqualFold(filepath.Base(windows.UTF16ToString(name[:size])), "postgres.exe") &&
			gap < 5*time.Second && gap > -5*time.Minute && waitErr == nil && state == uint32(windows.WAIT_TIMEOUT) {
			return h, true
		}
	}
	_ = windows.CloseHandle(h)
	return 0, false
}

func isPostmaster(pid int, _ string, started time.Time) bool {
	h, ok := open(pid, started)
	if ok {
		_ = windows.CloseHandle(h)
	}
	return ok
}

func waitGone(ctx context.Context, pid int, _ string, started time.Time) error {
	h, ok := open(pid, started)
	if !ok {
		return nil
	}
	defer windows.CloseHandle(h)
	cancelled, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(cancelled)
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = windows.SetEvent(cancelled); close(set) })
	defer func() {
		if !stop() {
			<-set // the event must not be closed under SetEvent
		}
	}()
	which, err := windows.WaitForMultipleObjects([]windows.Handle{h, cancelled}, false, windows.INFINITE)
	if err != nil {
		return err
	}
	if which == windows.WAIT_OBJECT_0 {
		return nil
	}
	return ctx.Err()
}

// replacedProgram: Windows keeps the file of a running program.
func replacedProgram(int) bool { return false }

func runningProgram(int) string { return "" }

// signalStop lets pg_ctl tell the server, which listens on a pipe of its own; -W: the waiting is ours.
func (c *Cluster) signalStop(ctx context.Context, _ int, mode Mode) error {
	_, err := c.run(ctx, nil, "pg_ctl", "stop", "-W", "-D", c.data(), "-m", string(mode))
	return err
}

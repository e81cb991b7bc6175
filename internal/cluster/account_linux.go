package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"howdah/internal/fault"
)

// EnsureAccount finds the system account of this name, or creates it (no login shell, no password, home below /var/lib
// that is not made). It needs root to create one.
func EnsureAccount(ctx context.Context, name string) (*Account, error) {
	var last error
	// Somebody else may hold the lock of /etc/passwd: look again, for two seconds.
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for range 20 {
		a, err := lookup(name)
		if a != nil || err != nil {
			return a, err
		}
		if os.Geteuid() != 0 {
			return nil, fault.New(fault.Forbidden, "cluster.account_rights", fault.Args{"account": name})
		}
		if last = addOnce(ctx, name); last == nil {
			continue
		}
		if errors.Is(last, exec.ErrNotFound) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-retry.C:
		}
	}
	return nil, fault.Wrap(last, fault.Unavailable, "cluster.account_failed", fault.Args{"account": name})
}

func lookup(name string) (*Account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) || errors.Is(err, syscall.ENOENT) {
			return nil, nil
		}
		return nil, err
	}
	a := &Account{Name: u.Username, Home: u.HomeDir}
	if a.UID, err = strconv.Atoi(u.Uid); err != nil {
		return nil, err
	}
	if a.GID, err = strconv.Atoi(u.Gid); err != nil {
		return nil, err
	}
	if a.UID == 0 {
		return nil, fault.New(fault.Invalid, "cluster.root", fault.Args{"account": name})
	}
	return a, nil
}

// addOnce makes the account unless another process of ours has just done so. useradd looks whether an account is there before it takes the lock of
// /etc/passwd, and replaces what it finds then: of two that run together, the later gives the account another number, with which nothing of the first is owned.
func addOnce(ctx context.Context, name string) error {
	etc, err := os.Open("/etc") // a folder that stays, where useradd exchanges its files
	if err != nil {
		return err
	}
	defer etc.Close()
	if err := syscall.Flock(int(etc.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock of /etc: %w", err)
	}
	if a, err := lookup(name); a != nil || err != nil {
		return err
	}
	return addUser(ctx, name)
}

func addUser(ctx context.Context, name string) error {
	cmd := exec.CommandContext(ctx, "useradd", "--system", "--user-group", "--no-create-home",
		"--home-dir", "/var/lib/"+name, "--shell", "/usr/sbin/nologin", "--comment", "Howdah", "--", name)
	if _, err := exec.LookPath("useradd"); err != nil { // Alpine has adduser of busybox only
		cmd = exec.CommandContext(ctx, "adduser", "-S", "-D", "-H", "-h", "/var/lib/"+name, "-s", "/sbin/nologin", "--", name)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, firstLine(string(out)))
	}
	return nil
}

// Drop makes this whole process the account for good: groups, group, user (all threads), HOME, USER and LOGNAME. It is a
// no-op for a process that already runs as it. Make paths absolute before: the account may not be allowed to ask for
// the working directory.
func Drop(a *Account) error {
	if a == nil || os.Geteuid() == a.UID && os.Getuid() == a.UID {
		return nil
	}
	if a.UID == 0 {
		return fault.New(fault.Invalid, "cluster.root", fault.Args{"account": a.Name})
	}
	failed := func(err error) error {
		return fault.Wrap(err, fault.Forbidden, "cluster.account_rights", fault.Args{"account": a.Name})
	}
	if err := syscall.Setgroups([]int{a.GID}); err != nil {
		return failed(fmt.Errorf("setgroups: %w", err))
	}
	if err := syscall.Setgid(a.GID); err != nil {
		return failed(fmt.Errorf("setgid: %w", err))
	}
	if err := syscall.Setuid(a.UID); err != nil {
		return failed(fmt.Errorf("setuid: %w", err))
	}
	if syscall.Setuid(0) == nil {
		return failed(errors.New("root came back after it was dropped"))
	}
	for name, value := range map[string]string{"HOME": a.Home, "USER": a.Name, "LOGNAME": a.Name} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

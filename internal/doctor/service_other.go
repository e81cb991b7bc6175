//go:build !windows

package doctor

import (
	"context"
	"os"
	"os/exec"

	"howdah/internal/fault"
)

// What root types about the service.
const (
	serviceLog     = "journalctl -u howdah -n 50"
	serviceStart   = "systemctl start howdah"
	serviceRestart = "systemctl restart howdah"
	serviceEnable  = "systemctl enable howdah"
	serviceUnmask  = "systemctl unmask howdah"
	serviceRevert  = "systemctl revert howdah" // to what the package has brought
	setClock       = "timedatectl set-ntp true || apt-get install --no-remove systemd-timesyncd"
)

// removing is a command that removes a file.
func removing(file string) string { return "rm -f " + quoted(file) }

// serviceShown asks systemd for the package's unit; "" where systemd does not run the system.
func serviceShown(ctx context.Context) (string, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "", nil
	}
	out, err := exec.CommandContext(ctx, "systemctl", "show", "howdah.service", "--property=LoadState,ActiveState,SubState,UnitFileState,NRestarts").Output()
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "doctor.systemd")
	}
	return string(out), nil
}

package doctor

import (
	"context"
	"errors"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"howdah/internal/fault"
)

// What an administrator types about the service, in PowerShell.
const (
	serviceLog     = `Get-Content -Tail 50 "$env:ProgramData\Howdah\log\howdah.log"`
	serviceStart   = "Start-Service howdah"
	serviceRestart = "Restart-Service howdah"
	serviceEnable  = "sc.exe config howdah start= auto"
	serviceUnmask  = serviceEnable
	serviceRevert  = "howdah install"
	setClock       = "w32tm /resync"
)

// removing is a command that removes a file.
func removing(file string) string {
	return "Remove-Item -Force -LiteralPath '" + strings.ReplaceAll(file, "'", "''") + "'"
}

// serviceShown asks the service manager, which takes no rights, and says it in systemd's words; "" where there is no service.
func serviceShown(context.Context) (string, error) {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "doctor.systemd")
	}
	defer windows.CloseServiceHandle(manager) //nolint:errcheck // nothing was written
	handle, err := windows.OpenService(manager, windows.StringToUTF16Ptr("howdah"), windows.SERVICE_QUERY_STATUS|windows.SERVICE_QUERY_CONFIG)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return "", nil
	}
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "doctor.systemd")
	}
	s := &mgr.Service{Name: "howdah", Handle: handle}
	defer s.Close() //nolint:errcheck // nothing was written
	status, err := s.Query()
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "doctor.systemd")
	}
	// No more than how it starts: what else mgr asks for, not every Windows knows, nor does Wine.
	const most = 8 << 10 // bytes; QueryServiceConfig's documentation
	room, needed := make([]uint64, most/8), uint32(0)
	config := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&room[0]))
	if err := windows.QueryServiceConfig(handle, config, most, &needed); err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "doctor.systemd")
	}
	shown := "LoadState=loaded\nActiveState=active\n"
	if status.State == svc.Stopped {
		shown = "LoadState=loaded\nActiveState=inactive\n"
		if status.Win32ExitCode != 0 && status.Win32ExitCode != uint32(windows.ERROR_SERVICE_NEVER_STARTED) {
			shown = "LoadState=loaded\nActiveState=failed\n"
		}
	}
	if config.StartType != mgr.StartAutomatic {
		shown += "UnitFileState=disabled\n"
	}
	return shown, nil
}

package config

import "golang.org/x/sys/windows"

// Trusted tells whether a file belongs to the administrators, to the system or to ourselves: anybody may make folders where the system's configuration is.
func Trusted(name string) bool {
	security, err := windows.GetNamedSecurityInfo(name, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return false
	}
	owner, _, err := security.Owner()
	if err != nil || owner == nil {
		return false
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	return owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) || err == nil && owner.Equals(user.User.Sid)
}

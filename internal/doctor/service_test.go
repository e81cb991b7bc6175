package doctor

import (
	"testing"
)

// What systemctl show prints.
func TestTheServicesStateIsJudged(t *testing.T) {
	t.Parallel()
	for shown, want := range map[string][]string{
		"LoadState=not-found\nActiveState=inactive\nUnitFileState=\nNRestarts=0\n":                              nil,
		"LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=0\n":                            nil,
		"LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\nNRestarts=5\n":                            {"doctor.service_failed"},
		"LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\nNRestarts=9\n": {"doctor.service_failed"},
		"LoadState=loaded\nActiveState=failed\n":                                                                {"doctor.service_ended"},
		"LoadState=masked\nActiveState=inactive\nUnitFileState=masked\nNRestarts=0\n":                           {"doctor.service_masked"},
		"LoadState=bad-setting\nActiveState=inactive\nUnitFileState=enabled\nNRestarts=0\n":                     {"doctor.service_unit"},
		"LoadState=loaded\nActiveState=activating\nSubState=start\nUnitFileState=enabled\nNRestarts=0\n":        {"doctor.service_starting"},
		"LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\nNRestarts=0\n":                         {"doctor.service_off", "doctor.service_disabled"},
	} {
		x := &exam{report: &Report{}}
		x.judgeService(shown)
		var have []string
		for _, f := range x.report.Findings {
			have = append(have, f.Fault.Key)
			if len(f.Mend) == 0 {
				t.Errorf("%s: nothing mends it", f.Fault.Key)
			}
		}
		if len(have) != len(want) || len(want) > 0 && have[0] != want[0] {
			t.Errorf("%q: %v", shown, have)
		}
	}
}

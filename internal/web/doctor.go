package web

import (
	"context"
	"net/http"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// Checkup is what a look at the machine has found.
type Checkup struct {
	At       time.Time // when it was looked; zero: that is still under way
	Findings []ui.Diagnosis
	Looked   []string // the checks that were made, in the person's language
	Left     []string // those that only the command makes
	Unseen   []string // what could not be looked at, and why
	Command  string   // that looks at all of it
}

// doctorPage shows who runs the house what howdah doctor finds. It changes nothing.
func (d *Door) doctorPage(v *visit) error {
	if d.options.Doctor == nil {
		return fault.New(fault.NotFound, "web.no_page")
	}
	if !v.me().Role.AtLeast(account.Admin) {
		return fault.New(fault.Forbidden, "web.doctor_admins")
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	found, err := d.options.Doctor(v.ctx(), v.lang)
	if err != nil {
		return err
	}
	p := ui.DoctorPage{Chrome: c, At: found.At, Findings: found.Findings, Looked: found.Looked, Left: found.Left, Unseen: found.Unseen, Command: found.Command}
	p.Title = v.lang.T("web.doctor.heading")
	d.render(v.w, v.r, http.StatusOK, "doctor", p)
	return nil
}

// doctors says whether there is a page Machine for somebody.
func (d *Door) doctors(v *visit) bool {
	return d.options.Doctor != nil && v.me().Role.AtLeast(account.Admin)
}

// Doctor gives what was found, in a language. It takes what is known, or waits for it a while.
type Doctor func(ctx context.Context, l lang.Locale) (Checkup, error)

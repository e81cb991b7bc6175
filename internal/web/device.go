package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"howdah/internal/fault"
	"howdah/internal/push"
	"howdah/internal/web/ui"
)

// Browsers that are told with no page open, and the house as an app on them.

func (d *Door) apiDevices(v *visit) (any, error) {
	key, err := d.tell.PublicKey(v.ctx())
	if err != nil {
		return nil, err
	}
	list, err := d.tell.Devices(v.ctx(), v.me())
	out := make([]object, len(list))
	for i, one := range list {
		out[i] = object{"id": one.ID, "agent": one.Agent, "made_at": one.Made.UTC(), "current": one.Session == v.session.ID}
		if one.Told != nil {
			out[i]["told_at"] = one.Told.UTC()
		}
	}
	return object{"key": key, "devices": out}, err
}

func (d *Door) apiSubscribe(v *visit) (any, error) {
	var in struct {
		Endpoint       string
		ExpirationTime any `json:"expirationTime"` // as PushSubscription.toJSON has it
		Keys           struct{ P256dh, Auth string }
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	to, err := push.NewSubscription(in.Endpoint, in.Keys.P256dh, in.Keys.Auth)
	if err != nil {
		return nil, err
	}
	return nil, d.tell.Subscribe(v.ctx(), v.session, to, string(v.lang))
}

func (d *Door) apiRemoveDevice(v *visit) (any, error) {
	id, err := v.number("device")
	if err != nil {
		return nil, err
	}
	return nil, d.tell.RemoveDevice(v.ctx(), v.me(), id)
}

func (d *Door) toldRemove(v *visit) error {
	id, err := v.number("device")
	if err != nil {
		return err
	}
	return d.showing(v, d.showTold, func() (string, error) { return "/told", d.tell.RemoveDevice(v.ctx(), v.me(), id) })
}

// worker is the script that browsers run with no page open. It begins with what it keeps of this version of the house.
func (d *Door) worker(w http.ResponseWriter, r *http.Request) {
	file, _, ok := ui.Static("", "sw.js")
	if !ok {
		d.fail(w, r, fault.New(fault.NotFound, "web.no_page"))
		return
	}
	files := []string{}
	for _, one := range ui.Files() {
		if one.Path != "sw.js" {
			files = append(files, ui.URL(one.Path))
		}
	}
	var body bytes.Buffer
	list, err := json.Marshal(files)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	fmt.Fprintf(&body, "const VERSION = %q\nconst FILES = %s\n", ui.URL(""), list)
	body.Write(file.Raw)
	w.Header().Set("Content-Type", file.Type)
	w.Header().Set("Cache-Control", "no-cache")
	write(w, r, http.StatusOK, body.Bytes())
}

// manifest is what makes the house an app (W3C, Web Application Manifest).
func (d *Door) manifest(w http.ResponseWriter, r *http.Request) {
	locale := requestLocale(r)
	icon := func(purpose string) object {
		return object{"src": ui.URL("mark.svg"), "sizes": "any", "type": "image/svg+xml", "purpose": purpose}
	}
	body, err := json.Marshal(object{"id": "/", "name": "Howdah", "short_name": "Howdah", "description": locale.T("web.app.description"), "lang": locale, "start_url": "/", "scope": "/",
		"display": "standalone", "background_color": "#fcf9f4", "theme_color": "#f2ebe0", "icons": []object{icon("any")}})
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/manifest+json")
	w.Header().Set("Cache-Control", "no-cache")
	write(w, r, http.StatusOK, body)
}

// offlinePage is what the app shows where it has kept nothing, and the house cannot be reached.
func (d *Door) offlinePage(v *visit) error {
	c := ui.Chrome{Locale: v.lang, Theme: theme(v.r)}
	d.render(v.w, v.r, http.StatusOK, "offline", ui.OfflinePage{Chrome: c})
	return nil
}

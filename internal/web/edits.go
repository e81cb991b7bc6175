package web

import (
	"html/template"
	"net/http"
	"time"

	"howdah/internal/web/ui"
)

// What a message said before it was edited, and bringing back what one has just deleted.

func (d *Door) apiEdits(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	versions, err := d.rooms.Edits(v.ctx(), v.me(), room, seq)
	out := make([]object, len(versions))
	for i, one := range versions {
		out[i] = object{"at": one.At.UTC().Truncate(time.Millisecond), "body": one.Body, "html": render(one.Body, nil)}
	}
	return object{"versions": out}, err
}

func (d *Door) apiRestore(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	return receipt(d.rooms.Restore(v.ctx(), v.me(), room, seq, v.clientID()))
}

func (d *Door) editsPage(v *visit) error {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return err
	}
	versions, err := d.rooms.Edits(v.ctx(), v.me(), room, seq)
	if err != nil {
		return err
	}
	m, err := d.rooms.Message(v.ctx(), v.me(), room, seq)
	if err != nil {
		return err
	}
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	p := ui.EditsPage{Chrome: c, Room: room, Seq: seq, By: pagePerson(m.By)}
	for _, one := range versions {
		p.Versions = append(p.Versions, ui.Version{At: one.At, HTML: template.HTML(render(one.Body, nil))}) //nolint:gosec // as in pageMessage
	}
	d.render(v.w, v.r, http.StatusOK, "edits", p)
	return nil
}

package web

import (
	"io"
	"net/http"

	"howdah/internal/fault"
	"howdah/internal/hook"
)

// Incoming webhooks: the address is the secret, and what comes is as its sender makes it.

const (
	hooksPath = "/api/hooks/"
	maxHook   = 4 << 20 // bytes: a push of many commits is large
)

// hook takes what came to an incoming webhook. It answers as Slack does, since programs look for that: 200 and "ok".
func (d *Door) hook(w http.ResponseWriter, r *http.Request) {
	err := d.takeHook(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	write(w, r, http.StatusOK, []byte("ok"))
}

func (d *Door) takeHook(r *http.Request) error {
	if d.options.Hooks == nil {
		return fault.New(fault.NotFound, "web.no_page")
	}
	in := hook.Request{Token: r.PathValue("token"), Type: r.Header.Get("Content-Type"), Event: r.Header.Get("X-GitHub-Event"), Signature: r.Header.Get("X-Hub-Signature-256")}
	for _, name := range []string{"X-GitHub-Delivery", "Idempotency-Key", "Webhook-Id"} {
		if in.Delivery = r.Header.Get(name); in.Delivery != "" {
			break
		}
	}
	if err := d.options.Hooks.Admit(r.Context(), in.Token); err != nil {
		return err
	}
	var err error
	if in.Body, err = io.ReadAll(r.Body); err != nil {
		return err
	}
	_, err = d.options.Hooks.Take(r.Context(), in)
	return err
}

func incomingDraft(name, secret string, calls bool) hook.IncomingDraft {
	return hook.IncomingDraft{Name: name, Secret: secret, Calls: calls}
}

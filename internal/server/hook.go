package server

import (
	"howdah/internal/fault"
	"howdah/internal/lang"
)

// hookWhy says in somebody's language why a webhook's message has not arrived.
func hookWhy(locale string, err error) string {
	message, _ := lang.Match(locale).Fault(err)
	return message
}

// hookOff says that a webhook was switched off.
func hookOff(locale, hook, room string, why error) string {
	return lang.Match(locale).T("server.hook.off", fault.Args{"hook": hook, "room": room, "why": hookWhy(locale, why)})
}

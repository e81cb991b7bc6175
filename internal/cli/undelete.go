package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// undeleteCmd brings back what somebody deleted, through the API: as the person whose token it is, with their rights.
type undeleteCmd struct {
	URL   string `help:"${help_url}" name:"url" default:"http://localhost:8432" placeholder:"URL"`
	Token string `help:"${help_token}" placeholder:"TOKEN"`
	By    string `help:"${help_undelete_by}" required:"" placeholder:"@HANDLE"`
	Since string `help:"${help_undelete_since}" required:"" placeholder:"TIME"`
	Until string `help:"${help_undelete_until}" placeholder:"TIME"`
	Room  string `help:"${help_undelete_room}" placeholder:"ROOM"`
	Yes   bool   `help:"${help_undelete_yes}"`
}

// Run is howdah undelete.
func (c *undeleteCmd) Run(ctx context.Context, t *terminal) error {
	if c.Token == "" {
		return fault.New(fault.Unauthenticated, "cli.no_token", fault.Args{"url": c.URL})
	}
	api := newAPI(c.URL, c.Token, t)
	since, err := keeper.ParseMoment(c.Since, time.Local)
	if err != nil {
		return err
	}
	person, err := api.findPerson(ctx, c.By)
	if err != nil {
		return err
	}
	ask := map[string]any{"client_id": chat.NewID(), "person": person, "since": since.UTC()}
	q := url.Values{"person": {strconv.FormatInt(person, 10)}, "since": {since.UTC().Format(time.RFC3339Nano)}}
	if c.Until != "" {
		until, err := keeper.ParseMoment(c.Until, time.Local)
		if err != nil {
			return err
		}
		ask["until"] = until.UTC()
		q.Set("until", until.UTC().Format(time.RFC3339Nano))
	}
	if c.Room != "" {
		room, err := api.findRoom(ctx, c.Room)
		if err != nil {
			return err
		}
		ask["room"] = room
		q.Set("room", strconv.FormatInt(room, 10))
	}
	var found struct {
		Rooms []struct {
			Room     int64
			Name     string
			Messages int
		}
	}
	if c.Yes {
		err = api.call(ctx, http.MethodPost, "/deletions", ask, &found)
	} else {
		err = api.call(ctx, http.MethodGet, "/deletions?"+q.Encode(), nil, &found)
	}
	if err != nil {
		return err
	}
	sum := 0
	for _, r := range found.Rooms {
		t.say("cli.undelete.room", fault.Args{"room": r.Name, "n": r.Messages})
		sum += r.Messages
	}
	switch {
	case sum == 0:
		t.say("cli.undelete.none", fault.Args{"name": c.By})
	case c.Yes:
		t.say("cli.undelete.done", fault.Args{"n": sum})
	default:
		t.say("cli.undelete.would", fault.Args{"n": sum})
	}
	return nil
}

func (a apiClient) findPerson(ctx context.Context, name string) (int64, error) {
	if id, err := strconv.ParseInt(name, 10, 64); err == nil {
		return id, nil // also of somebody who is barred, and whom the list leaves out
	}
	handle := strings.TrimPrefix(name, "@")
	var all struct {
		People []struct {
			ID     int64
			Handle string
		}
	}
	if err := a.call(ctx, http.MethodGet, "/people", nil, &all); err != nil {
		return 0, err
	}
	for _, p := range all.People {
		if strings.EqualFold(p.Handle, handle) {
			return p.ID, nil
		}
	}
	return 0, fault.New(fault.NotFound, "cli.no_person", fault.Args{"name": name})
}

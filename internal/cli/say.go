package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"howdah/client"
	"howdah/internal/fault"
)

// sayCmd posts a message through the API, as any program could.
type sayCmd struct {
	URL   string   `help:"${help_url}" name:"url" default:"http://localhost:8432" placeholder:"URL"`
	Token string   `help:"${help_token}" placeholder:"TOKEN"`
	Room  string   `arg:"" help:"${help_say_room}"`
	Text  []string `arg:"" optional:"" help:"${help_say_text}"`
}

// Run is howdah say.
func (c *sayCmd) Run(ctx context.Context, t *terminal) error {
	if c.Token == "" {
		return fault.New(fault.Unauthenticated, "cli.no_token", fault.Args{"url": c.URL})
	}
	body := strings.Join(c.Text, " ")
	if len(c.Text) == 0 || body == "-" {
		raw, err := io.ReadAll(io.LimitReader(t.in, 1<<20))
		if err != nil {
			return err
		}
		body = string(raw)
	}
	api := newAPI(c.URL, c.Token, t)
	room, err := api.findRoom(ctx, c.Room)
	if err != nil {
		return err
	}
	receipt, err := api.Post(ctx, client.Draft{Room: room, Body: body})
	if err != nil {
		return api.fault(err)
	}
	t.say("cli.said", fault.Args{"room": c.Room, "seq": receipt.Seq})
	return nil
}

// readCmd shows what was said in a room, and what is said there from then on.
type readCmd struct {
	URL    string `help:"${help_url}" name:"url" default:"http://localhost:8432" placeholder:"URL"`
	Token  string `help:"${help_token}" placeholder:"TOKEN"`
	Last   int    `help:"${help_read_last}" default:"20" placeholder:"N"`
	Follow bool   `help:"${help_read_follow}" short:"f"`
	JSON   bool   `help:"${help_read_json}" name:"json"`
	Room   string `arg:"" help:"${help_read_room}"`
}

// Run is howdah read.
func (c *readCmd) Run(ctx context.Context, t *terminal) error {
	if c.Token == "" {
		return fault.New(fault.Unauthenticated, "cli.no_token", fault.Args{"url": c.URL})
	}
	api := newAPI(c.URL, c.Token, t)
	room, err := api.findRoom(ctx, c.Room)
	if err != nil {
		return err
	}
	seq := int64(0)
	show := func(m client.Message) error {
		seq = max(seq, m.Seq)
		if m.Deleted {
			return nil
		}
		if c.JSON {
			raw, err := json.Marshal(m)
			if err == nil {
				_, err = fmt.Fprintf(t.out, "%s\n", raw)
			}
			return err
		}
		body := strings.ReplaceAll(plain(m.Body), "\n", "\n    ")
		_, err := fmt.Fprintf(t.out, "%s %s: %s\n", m.At.Local().Format("2006-01-02 15:04"), plain(m.By.Name), body)
		return err
	}
	now, err := api.room(ctx, room)
	if err != nil {
		return err
	}
	if c.Last > 0 {
		messages, err := api.Messages(ctx, room, 0, min(c.Last, 100))
		if err != nil {
			return api.fault(err)
		}
		for _, m := range messages {
			if err := show(m); err != nil {
				return err
			}
		}
	}
	if !c.Follow {
		return nil
	}
	err = api.Client.Follow(ctx, room, max(seq, now.Seq), func(e client.Event) error {
		if e.Kind == "post" && e.Message != nil {
			return show(*e.Message)
		}
		return nil
	})
	if err == nil {
		return nil // Ctrl-C
	}
	return api.fault(err)
}

// plain is a text that a terminal can show: others have written it.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.Is(unicode.C, r) || r == 0x200d {
			return r
		}
		return -1
	}, s)
}

// apiClient calls the HTTP API of a running house.
type apiClient struct{ *client.Client }

func newAPI(url, token string, t *terminal) apiClient {
	c := client.New(url, token)
	c.Language, c.Tries = string(t.lang), 4
	return apiClient{c}
}

func (a apiClient) findRoom(ctx context.Context, name string) (int64, error) {
	r, err := a.FindRoom(ctx, name)
	if err == nil {
		return r.ID, nil
	}
	if !client.IsCode(err, "not_found") {
		return 0, a.fault(err)
	}
	if id, numberErr := strconv.ParseInt(strings.TrimPrefix(name, "#"), 10, 64); numberErr == nil { // a public room that I am not in
		return id, nil
	}
	return 0, fault.New(fault.NotFound, "cli.no_room", fault.Args{"room": strings.TrimPrefix(name, "#")})
}

func (a apiClient) room(ctx context.Context, id int64) (client.Room, error) {
	var r client.Room
	return r, a.call(ctx, http.MethodGet, fmt.Sprintf("/rooms/%d", id), nil, &r)
}

// call makes a call; an error is a fault.
func (a apiClient) call(ctx context.Context, method, path string, in, out any) error {
	return a.fault(a.Call(ctx, method, path, in, out))
}

// fault is an error of the client's for people.
func (a apiClient) fault(err error) error {
	var refused *client.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return fault.New(fault.Code(refused.Code), "cli.refused", fault.Args{"message": refused.Message, "hint": refused.Hint})
	case errors.Is(err, client.ErrNotHowdah):
		return fault.Wrap(err, fault.Unavailable, "cli.not_howdah", fault.Args{"url": a.URL, "status": strings.TrimPrefix(err.Error(), client.ErrNotHowdah.Error()+": ")})
	case errors.Is(err, client.ErrAddress):
		return fault.Wrap(err, fault.Invalid, "cli.url", fault.Args{"url": a.URL})
	case errors.Is(err, client.ErrReset):
		return fault.Wrap(err, fault.Conflict, "cli.reset")
	}
	return fault.Wrap(err, fault.Unavailable, "cli.unreachable", fault.Args{"url": a.URL})
}

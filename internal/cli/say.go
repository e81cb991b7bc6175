package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"howdah/internal/chat"
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
	api := apiClient{url: strings.TrimSuffix(c.URL, "/") + "/api/v1", token: c.Token, lang: string(t.lang)}
	room, err := api.findRoom(ctx, c.Room)
	if err != nil {
		return err
	}
	id := chat.NewID()
	var receipt struct{ Seq int64 }
	// The same id in every try: a message whose answer was lost is not said twice.
	for try := 1; ; try++ {
		err = api.call(ctx, http.MethodPost, fmt.Sprintf("/rooms/%d/messages", room), map[string]string{"client_id": id, "body": body}, &receipt)
		if !fault.Is(err, fault.Unavailable) || try == 5 || ctx.Err() != nil {
			break
		}
		timer := time.NewTimer(time.Duration(try) * 300 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	if err == nil {
		t.say("cli.said", fault.Args{"room": c.Room, "seq": receipt.Seq})
	}
	return err
}

// apiClient calls the HTTP API of a running house.
type apiClient struct{ url, token, lang string }

type apiRoom struct {
	ID    int64
	Name  string // "" for a direct room
	Other *struct{ Handle string }
}

// is tells whether a person means this room by a name. The empty one is none: a direct room has it, too, and what a script has no name for
// is for nobody's eyes.
func (r apiRoom) is(name string) bool {
	if r.Other != nil {
		return name == "@"+r.Other.Handle
	}
	return name != "" && strings.EqualFold(r.Name, name)
}

func (a apiClient) findRoom(ctx context.Context, name string) (int64, error) {
	name = strings.TrimPrefix(name, "#")
	var mine struct{ Rooms []apiRoom }
	if err := a.call(ctx, http.MethodGet, "/rooms", nil, &mine); err != nil {
		return 0, err
	}
	for _, r := range mine.Rooms {
		if r.is(name) {
			return r.ID, nil
		}
	}
	if id, err := strconv.ParseInt(name, 10, 64); err == nil {
		return id, nil
	}
	return 0, fault.New(fault.NotFound, "cli.no_room", fault.Args{"room": name})
}

func (a apiClient) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, body)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "cli.url", fault.Args{"url": a.url})
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept-Language", a.lang)
	request.Header.Set("User-Agent", "howdah")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "cli.unreachable", fault.Args{"url": a.url})
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "cli.unreachable", fault.Args{"url": a.url})
	}
	if answer.StatusCode >= 300 {
		var failure struct {
			Error struct{ Code, Message, Hint string }
		}
		if json.Unmarshal(raw, &failure) != nil || failure.Error.Code == "" {
			return fault.New(fault.Unavailable, "cli.not_howdah", fault.Args{"url": a.url, "status": answer.Status})
		}
		return fault.New(fault.Code(failure.Error.Code), "cli.refused", fault.Args{"message": failure.Error.Message, "hint": failure.Error.Hint})
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

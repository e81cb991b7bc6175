package web

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/web/ui"
)

// Files: sent in stretches that can be taken up again, and given out so that nothing in them runs as a page of ours.

type fileJSON struct {
	N       int    `json:"n"`
	Name    string `json:"name"`
	Type    string `json:"type"`
	Size    int64  `json:"size"`
	Width   int    `json:"width,omitempty"`
	Height  int    `json:"height,omitempty"`
	Alt     string `json:"alt,omitempty"`
	Excerpt string `json:"excerpt,omitempty"`
}

// fileIn is a file of a post: an upload of its author.
type fileIn struct {
	Upload string `json:"upload"`
	Alt    string `json:"alt"`
}

func toFiles(list []chat.File) []fileJSON {
	var out []fileJSON
	for _, f := range list {
		out = append(out, fileJSON{f.N, f.Name, f.Type, f.Size, f.Width, f.Height, f.Alt, f.Excerpt})
	}
	return out
}

func draftFiles(list []fileIn) []chat.FileDraft {
	var out []chat.FileDraft
	for _, f := range list {
		out = append(out, chat.FileDraft(f))
	}
	return out
}

func pageFiles(list []chat.File) []ui.SharedFile {
	var out []ui.SharedFile
	for _, f := range list {
		out = append(out, ui.SharedFile{N: f.N, Name: f.Name, Type: f.Type, Size: f.Size, Width: f.Width, Height: f.Height, Alt: f.Alt, Excerpt: f.Excerpt})
	}
	return out
}

func uploadJSON(u files.Upload) object {
	return object{"id": u.ID, "name": u.Name, "size": u.Size, "offset": u.Received, "done": u.Done}
}

func (d *Door) apiUpload(v *visit) (any, error) {
	var in struct {
		ClientID string `json:"client_id"`
		Name     string
		Size     int64
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	u, err := d.options.Files.Begin(v.ctx(), v.me().ID, files.Draft{ID: in.ClientID, Name: in.Name, Size: in.Size})
	if err != nil {
		return nil, err
	}
	return uploadJSON(u), nil
}

func (d *Door) apiUploaded(v *visit) (any, error) {
	u, err := d.options.Files.Upload(v.ctx(), v.me().ID, v.r.PathValue("upload"))
	if err != nil {
		return nil, err
	}
	return uploadJSON(u), nil
}

func (d *Door) apiCancelUpload(v *visit) (any, error) {
	return nil, d.options.Files.Cancel(v.ctx(), v.me().ID, v.r.PathValue("upload"))
}

// Bytes of files are neither bounded like other requests nor by the server's time for one: only by how long nothing comes.
const (
	uploadType = "application/octet-stream"
	fileSilent = time.Minute
)

// sendsFile tells whether a request brings bytes of a file; the handler bounds them by what is still to come.
func sendsFile(r *http.Request) bool {
	return r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, "/api/v1/uploads/")
}

func (d *Door) apiAppend(v *visit) (any, error) {
	if kind, _, _ := mime.ParseMediaType(v.r.Header.Get("Content-Type")); kind != uploadType {
		return nil, fault.New(fault.Invalid, "files.not_bytes")
	}
	offset, err := strconv.ParseInt(v.r.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || offset < 0 {
		return nil, fault.New(fault.Invalid, "files.no_offset")
	}
	control := http.NewResponseController(v.w)
	body := &patient{from: v.r.Body, wait: func() { _ = control.SetReadDeadline(time.Now().Add(fileSilent)) }}
	defer func() { _ = control.SetWriteDeadline(time.Now().Add(fileSilent)) }() // it began when the request did
	u, err := d.options.Files.Append(v.ctx(), v.me().ID, v.r.PathValue("upload"), offset, body)
	if fault.HasKey(err, "files.offset") {
		v.w.Header().Set("Upload-Offset", fmt.Sprint(fault.Of(err).Args["offset"]))
	}
	if err != nil {
		return nil, err
	}
	return uploadJSON(u), nil
}

// patient reads what comes slowly: each read may take as long as the first.
type patient struct {
	from io.Reader
	wait func()
	next time.Time
}

func (p *patient) Read(b []byte) (int, error) {
	if now := time.Now(); now.After(p.next) {
		p.wait()
		p.next = now.Add(fileSilent / 4)
	}
	n, err := p.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // whoever sent it is gone; they ask how far it came
	}
	return n, err
}

// filePolicy is what a file may do that is opened by itself, should a browser take it for a page: nothing.
const filePolicy = "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; img-src 'self'; sandbox"

// pdfPolicy lets a browser show a PDF in its own viewer, which is no page of ours; in a sandbox Chromium shows none.
const pdfPolicy = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// fileOf finds the file that a request names, with its rights.
func (d *Door) fileOf(v *visit) (chat.Shared, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return chat.Shared{}, err
	}
	n, err := v.number("n")
	if err != nil || n > chat.MostFiles {
		return chat.Shared{}, fault.New(fault.NotFound, "chat.no_file")
	}
	return d.rooms.File(v.ctx(), v.me(), room, seq, int(n))
}

// giveFile streams a file, whole or in ranges.
func (d *Door) giveFile(v *visit) error {
	f, err := d.fileOf(v)
	if err != nil {
		return err
	}
	h := v.w.Header()
	how, kind := "attachment", f.Type
	if files.Shown(f.Type) && !v.r.URL.Query().Has("save") {
		how = "inline"
		if f.Type == files.Text {
			kind = "text/plain; charset=utf-8"
		}
	} else if !files.Shown(f.Type) {
		kind = files.Other
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition(how, f.Name))
	h.Set("Content-Security-Policy", filePolicy)
	if f.Type == files.PDF && how == "inline" {
		h.Set("Content-Security-Policy", pdfPolicy)
	}
	h.Set("Cache-Control", "private, no-cache") // kept, and asked about each time: rights end
	h.Set("ETag", `"`+hex.EncodeToString(f.SHA256[:16])+`"`)
	w := &patientWriter{ResponseWriter: v.w, control: http.NewResponseController(v.w)}
	http.ServeContent(w, v.r, "", time.Time{}, d.options.Files.Reader(v.ctx(), f.Content, f.Size))
	return nil
}

// patientWriter writes to who reads slowly.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	next    time.Time
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if now := time.Now(); now.After(p.next) {
		_ = p.control.SetWriteDeadline(now.Add(fileSilent))
		p.next = now.Add(fileSilent / 4)
	}
	return p.ResponseWriter.Write(b)
}

// disposition is a Content-Disposition (RFC 6266) that bears any name.
func disposition(how, name string) string {
	if value := mime.FormatMediaType(how, map[string]string{"filename": name}); value != "" {
		return value
	}
	return how
}

// givePreview gives a small picture of a file.
func (d *Door) givePreview(v *visit) error {
	f, err := d.fileOf(v)
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Security-Policy", filePolicy)
	h.Set("Cache-Control", "private, max-age=3600")
	tag := `"p` + hex.EncodeToString(f.SHA256[:16]) + `"`
	h.Set("ETag", tag)
	if v.r.Header.Get("If-None-Match") == tag {
		v.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	kind, data, err := d.options.Files.Preview(v.ctx(), f.Content)
	if err != nil {
		h.Del("ETag")
		h.Set("Cache-Control", "no-store")
		return err
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = v.w.Write(data) // the other side has gone away: nobody to tell
	return nil
}

// apiGive is a route for programs that answers with something else than JSON.
func apiGive(give func(*visit) error) func(*visit) (any, error) {
	return func(v *visit) (any, error) { return answered, give(v) }
}

// answered says that a call has answered by itself.
var answered = new(struct{ int })

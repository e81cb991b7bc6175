package web

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	_ "embed"

	"howdah/internal/account"
	"howdah/internal/fault"
)

// openAPI describes the API to programs (OpenAPI 3.1); a test compares it with the routes.
//
//go:embed openapi.json
var openAPI []byte

type handler func(*visit) error

// page is a route for people: who is not signed in is led to the sign-in page and back.
type page struct {
	pattern string
	handle  handler
	open    bool // for everybody, signed in or not
}

// call is a route for programs. It answers with a value for JSON; nil is 204.
type call struct {
	pattern string
	handle  func(*visit) (any, error)
}

func (d *Door) pages() []page {
	return []page{
		{"GET /{$}", d.home, true},
		{"GET /setup/{token}", d.setupForm, true},
		{"POST /setup/{token}", d.setup, true},
		{"GET /sign-in", d.signInForm, true},
		{"POST /sign-in", d.signIn, true},
		{"GET /sign-in/code", d.codeForm, true},
		{"POST /sign-in/code", d.code, true},
		{"POST /sign-in/passkey/begin", d.passkeySignInBegin, true},
		{"POST /sign-in/passkey", d.passkeySignIn, true},
		{"GET /sign-in/with/{provider}", d.providerGo, true},
		{"GET /sign-in/with/{provider}/back", d.providerBack, true},
		{"POST /sign-out", d.signOut, true},
		{"GET /recover/{token}", d.recoverForm, true},
		{"POST /recover/{token}", d.recover, true},
		{"POST /recover/{token}/with/{provider}", d.providerRecover, true},
		{"GET /forgot", d.forgotForm, true},
		{"POST /forgot", d.forgot, true},
		{"GET /mail/{token}", d.mailboxForm, false},
		{"POST /mail/{token}", d.mailboxTake, false},
		{"GET /mail/off/{token}", d.mailStopForm, true},
		{"POST /mail/off/{token}", d.mailStop, true},
		{"GET /invite/{token}", d.inviteForm, true},
		{"POST /invite/{token}", d.acceptInvite, true},
		{"GET /room/{room}", d.roomPage, false},
		{"POST /room/{room}/messages", d.roomPost, false},
		{"POST /room/{room}/messages/{seq}/answer", d.roomAnswer, false},
		{"POST /room/{room}/messages/{seq}/back", d.roomBack, false},
		{"POST /room/{room}/messages/{seq}/react", d.roomReact, false},
		{"POST /room/{room}/messages/{seq}/pin", d.roomPin, false},
		{"POST /room/{room}/messages/{seq}/save", d.roomSave, false},
		{"GET /room/{room}/pins", d.pinsPage, false},
		{"GET /saved", d.savedPage, false},
		{"POST /room/{room}/join", d.roomJoin, false},
		{"POST /room/{room}/leave", d.roomLeave, false},
		{"POST /room/{room}/settings", d.roomSettings, false},
		{"POST /room/{room}/archive", d.roomArchive, false},
		{"POST /room/{room}/private", d.roomPrivate, false},
		{"POST /room/{room}/members", d.roomInvite, false},
		{"POST /room/{room}/members/{person}/role", d.roomRole, false},
		{"POST /room/{room}/members/{person}/remove", d.roomRemove, false},
		{"GET /room/{room}/messages/{seq}/edits", d.editsPage, false},
		{"GET /room/{room}/messages/{seq}/files/{n}/{name}", d.giveFile, false},
		{"GET /room/{room}/messages/{seq}/previews/{n}", d.givePreview, false},
		{"GET /room/{room}/messages/{seq}/cards/{card}", d.giveCardPicture, false},
		{"POST /room/{room}/messages/{seq}/cards/{card}/remove", d.roomRemoveCard, false},
		{"GET /threads", d.threadsPage, false},
		{"POST /room/{room}/bell", d.roomBell, false},
		{"POST /room/{room}/threads/{seq}/bell", d.roomThreadBell, false},
		{"GET /told", d.toldPage, false},
		{"POST /told", d.toldSave, false},
		{"POST /told/quiet", d.toldQuiet, false},
		{"POST /told/mail", d.toldMail, false},
		{"POST /told/pause", d.toldPause, false},
		{"POST /told/devices/{device}/remove", d.toldRemove, false},
		{"GET /offline", d.offlinePage, true},
		{"GET /search", d.searchPage, false},
		{"GET /rooms", d.roomsPage, false},
		{"POST /rooms", d.roomsCreate, false},
		{"GET /people", d.peoplePage, false},
		{"POST /people/{person}/direct", d.peopleDirect, false},
		{"POST /people/{person}/role", d.peopleRole, false},
		{"POST /people/{person}/disable", d.peopleDisable(true), false},
		{"POST /people/{person}/enable", d.peopleDisable(false), false},
		{"POST /people/{person}/factors/reset", d.peopleResetFactors, false},
		{"POST /people/{person}/recovery", d.peopleRecovery, false},
		{"GET /people/{person}", d.personPage, false},
		{"POST /people/{person}/sessions/end", d.onOne(d.personEnd), false},
		{"POST /people/{person}/sessions/{session}/end", d.onOne(d.personEnd), false},
		{"POST /people/{person}/tokens/{token}/revoke", d.onOne(d.personRevoke), false},
		{"GET /spaces", d.spacesPage, false},
		{"POST /spaces/{room}/archive", d.spacesArchive, false},
		{"POST /people/demand", d.peopleDemand, false},
		{"POST /people/invites", d.peopleInvite, false},
		{"POST /people/invites/{invite}/revoke", d.peopleRevoke, false},
		{"GET /bots", d.botsPage, false},
		{"POST /bots", d.botsMake, false},
		{"POST /bots/{bot}/take", d.botsTake, false},
		{"POST /bots/{bot}/disable", d.botsSwitch(true), false},
		{"POST /bots/{bot}/enable", d.botsSwitch(false), false},
		{"POST /bots/{bot}/tokens", d.botsToken, false},
		{"POST /bots/{bot}/tokens/{token}/revoke", d.botsRevoke, false},
		{"GET /room/{room}/hooks", d.hooksPage, false},
		{"POST /room/{room}/hooks/incoming", d.onHooks("incoming", d.incomingMake), false},
		{"POST /room/{room}/hooks/incoming/{hook}/drop", d.onHooks("", onHook(d.incomingDrop)), false},
		{"POST /room/{room}/hooks/outgoing", d.onHooks("outgoing", d.outgoingMake), false},
		{"POST /room/{room}/hooks/outgoing/{hook}/drop", d.onHooks("", onHook(d.outgoingDrop)), false},
		{"POST /room/{room}/hooks/outgoing/{hook}/on", d.onHooks("", onHook(d.outgoingSwitch(true))), false},
		{"POST /room/{room}/hooks/outgoing/{hook}/off", d.onHooks("", onHook(d.outgoingSwitch(false))), false},
		{"POST /room/{room}/hooks/outgoing/{hook}/test", d.onHooks("", onHook(d.outgoingAgain)), false},
		{"POST /room/{room}/hooks/outgoing/{hook}/again", d.onHooks("", onHook(d.outgoingAgain)), false},
		{"GET /watch", d.watchPage, false},
		{"GET /watch/entry/{seq}", d.watchEntry, false},
		{"GET /watch/session/{session}", d.watchSession, false},
		{"GET /watch/export.csv", d.watchExport("csv"), false},
		{"GET /watch/export.jsonl", d.watchExport("jsonl"), false},
		{"POST /watch/incidents/{incident}/answer", d.watchAnswer, false},
		{"POST /watch/mutes/{incident}/end", d.watchUnmute, false},
		{"GET /time", d.timePage, false},
		{"GET /doctor", d.doctorPage, false},
		{"GET /trail", d.trailPage, false},
		{"GET /retention", d.retentionPage, false},
		{"POST /retention", d.retentionSet, false},
		{"GET /room/{room}/retention", d.retentionPage, false},
		{"POST /room/{room}/retention", d.retentionSet, false},
		{"GET /trail/export.csv", d.trailExport, false},
		{"GET /deleted", d.deletedPage, false},
		{"POST /deleted", d.deletedUndo, false},
		{"GET /me", d.mePage, false},
		{"GET " + securityPath, d.securityPage, false},
		{"POST /me/security/passkeys/begin", d.passkeyBegin, false},
		{"POST /me/security/passkeys", d.passkeyFinish, false},
		{"POST /me/security/passkeys/{passkey}/name", d.passkeyRename, false},
		{"POST /me/security/passkeys/{passkey}/remove", d.passkeyRemove, false},
		{"POST /me/security/providers/{provider}", d.providerConnect, false},
		{"POST /me/security/connections/{connection}/remove", d.providerRemove, false},
		{"POST /me/security/mail", d.mailboxAsk, false},
		{"POST /me/security/mail/remove", d.mailboxDrop, false},
		{"POST /me/security/codes", d.securityBegin, false},
		{"POST /me/security/codes/confirm", d.securityConfirm, false},
		{"POST /me/security/codes/recovery", d.securityRecovery, false},
		{"POST /me/security/codes/remove", d.securityRemove, false},
		{"POST /me/profile", d.meProfile, false},
		{"POST /me/language", d.meLanguage, false},
		{"POST /me/theme", d.meTheme, false},
		{"POST /me/cards", d.meCards, false},
		{"POST /me/password", d.mePassword, false},
		{"POST /me/sessions/{session}/end", d.meEnd, false},
		{"POST /me/sessions/end", d.meEndOthers, false},
		{"POST /me/tokens", d.meToken, false},
		{"POST /me/tokens/{token}/revoke", d.meRevoke, false},
	}
}

func (d *Door) calls() []call {
	return []call{
		{"GET /api/v1/me", d.apiMe},
		{"PATCH /api/v1/me", d.apiUpdateMe},
		{"GET /api/v1/rooms", d.apiRooms},
		{"GET /api/v1/rooms/public", d.apiPublicRooms},
		{"POST /api/v1/rooms", d.apiCreateRoom},
		{"POST /api/v1/direct", d.apiDirect},
		{"GET /api/v1/rooms/{room}", d.apiRoom},
		{"PATCH /api/v1/rooms/{room}", d.apiRename},
		{"POST /api/v1/rooms/{room}/join", d.apiJoin},
		{"POST /api/v1/rooms/{room}/leave", d.apiLeave},
		{"GET /api/v1/rooms/{room}/members", d.apiMembers},
		{"PUT /api/v1/rooms/{room}/members/{person}", d.apiPutMember},
		{"DELETE /api/v1/rooms/{room}/members/{person}", d.apiRemoveMember},
		{"GET /api/v1/rooms/{room}/messages", d.apiMessages},
		{"POST /api/v1/rooms/{room}/messages", d.apiPost},
		{"GET /api/v1/rooms/{room}/messages/{seq}", d.apiMessage},
		{"PATCH /api/v1/rooms/{room}/messages/{seq}", d.apiEdit},
		{"DELETE /api/v1/rooms/{room}/messages/{seq}", d.apiDelete},
		{"PUT /api/v1/rooms/{room}/messages/{seq}/reactions/{emoji}", d.apiReact(true)},
		{"DELETE /api/v1/rooms/{room}/messages/{seq}/reactions/{emoji}", d.apiReact(false)},
		{"PUT /api/v1/rooms/{room}/messages/{seq}/pin", d.apiPin(true)},
		{"DELETE /api/v1/rooms/{room}/messages/{seq}/pin", d.apiPin(false)},
		{"GET /api/v1/rooms/{room}/pins", d.apiPins},
		{"PUT /api/v1/rooms/{room}/messages/{seq}/saved", d.apiSave(true)},
		{"DELETE /api/v1/rooms/{room}/messages/{seq}/saved", d.apiSave(false)},
		{"GET /api/v1/saved", d.apiSaved},
		{"PUT /api/v1/rooms/{room}/draft", d.apiDraft},
		{"GET /api/v1/drafts", d.apiDrafts},
		{"GET /api/v1/rooms/{room}/messages/{seq}/edits", d.apiEdits},
		{"GET /api/v1/rooms/{room}/messages/{seq}/files/{n}", apiGive(d.giveFile)},
		{"GET /api/v1/rooms/{room}/messages/{seq}/files/{n}/preview", apiGive(d.givePreview)},
		{"GET /api/v1/rooms/{room}/messages/{seq}/cards/{card}", apiGive(d.giveCardPicture)},
		{"DELETE /api/v1/rooms/{room}/messages/{seq}/cards/{card}", d.apiRemoveCard},
		{"POST /api/v1/uploads", d.apiUpload},
		{"GET /api/v1/uploads/{upload}", d.apiUploaded},
		{"PATCH /api/v1/uploads/{upload}", d.apiAppend},
		{"DELETE /api/v1/uploads/{upload}", d.apiCancelUpload},
		{"POST /api/v1/rooms/{room}/messages/{seq}/undelete", d.apiRestore},
		{"POST /api/v1/rooms/{room}/messages/{seq}/answer", d.apiAnswer},
		{"POST /api/v1/rooms/{room}/messages/{seq}/back", d.apiBack},
		{"POST /api/v1/rooms/{room}/commands", d.apiCommand},
		{"GET /api/v1/reminders", d.apiReminders},
		{"GET /api/v1/told", d.apiTold},
		{"PATCH /api/v1/told", d.apiSetTold},
		{"GET /api/v1/devices", d.apiDevices},
		{"POST /api/v1/devices", d.apiSubscribe},
		{"DELETE /api/v1/devices/{device}", d.apiRemoveDevice},
		{"PUT /api/v1/rooms/{room}/bell", d.apiBell},
		{"PUT /api/v1/rooms/{room}/threads/{seq}/bell", d.apiThreadBell},
		{"GET /api/v1/threads", d.apiThreads},
		{"GET /api/v1/rooms/{room}/threads/{seq}", d.apiThread},
		{"PUT /api/v1/rooms/{room}/threads/{seq}/read", d.apiReadThread},
		{"PUT /api/v1/rooms/{room}/threads/{seq}/follow", d.apiFollowThread(true)},
		{"DELETE /api/v1/rooms/{room}/threads/{seq}/follow", d.apiFollowThread(false)},
		{"GET /api/v1/rooms/{room}/since", d.apiSince},
		{"GET /api/v1/search", d.apiSearch},
		{"GET /api/v1/deletions", d.apiDeletions},
		{"POST /api/v1/deletions", d.apiUndoDeletions},
		{"PUT /api/v1/rooms/{room}/read", d.apiRead},
		{"GET /api/v1/people", d.apiPeople},
		{"GET /api/v1/invites", d.apiInvites},
		{"POST /api/v1/invites", d.apiInvite},
		{"DELETE /api/v1/invites/{invite}", d.apiRevokeInvite},
		{"GET /api/v1/sessions", d.apiSessions},
		{"DELETE /api/v1/sessions/{session}", d.apiEndSession},
		{"GET /api/v1/watch", d.apiWatch},
		{"GET /api/v1/watch/entries", d.apiWatchEntries},
		{"GET /api/v1/watch/sessions/{session}", d.apiWatchSession},
		{"GET /api/v1/watch/incidents", d.apiWatchIncidents},
		{"GET /api/v1/trail", d.apiTrail},
		{"GET /api/v1/spaces", d.apiSpaces},
		{"GET /api/v1/people/{person}/sessions", d.apiSessionsOf},
		{"DELETE /api/v1/people/{person}/sessions", d.apiEndSessionsOf},
		{"DELETE /api/v1/people/{person}/sessions/{session}", d.apiEndSessionsOf},
		{"GET /api/v1/retention", d.apiRetention},
		{"PUT /api/v1/retention", d.apiSetRetention},
		{"GET /api/v1/retention/plan", d.apiPlanRetention},
		{"GET /api/v1/rooms/{room}/retention", d.apiRetention},
		{"PUT /api/v1/rooms/{room}/retention", d.apiSetRetention},
		{"GET /api/v1/rooms/{room}/retention/plan", d.apiPlanRetention},
		{"GET /api/v1/time", d.apiTime},
		{"GET /api/v1/time/plan", d.apiTimePlan},
		{"GET /api/v1/time/posts", d.apiTimePosts},
		{"GET /api/v1/tokens", d.apiTokens},
		{"POST /api/v1/tokens", d.apiNewToken},
		{"DELETE /api/v1/tokens/{token}", d.apiRevokeToken},
		{"GET /api/v1/bots", d.apiBots},
		{"POST /api/v1/bots", d.apiNewBot},
		{"GET /api/v1/bots/{bot}/tokens", d.apiBotTokens},
		{"POST /api/v1/bots/{bot}/tokens", d.apiNewBotToken},
		{"DELETE /api/v1/bots/{bot}/tokens/{token}", d.apiRevokeBotToken},
		{"GET /api/v1/rooms/{room}/incoming", d.apiIncoming},
		{"POST /api/v1/rooms/{room}/incoming", d.apiNewIncoming},
		{"DELETE /api/v1/rooms/{room}/incoming/{hook}", d.apiDropIncoming},
		{"GET /api/v1/rooms/{room}/outgoing", d.apiOutgoing},
		{"POST /api/v1/rooms/{room}/outgoing", d.apiNewOutgoing},
		{"PATCH /api/v1/rooms/{room}/outgoing/{hook}", d.apiSwitchOutgoing},
		{"DELETE /api/v1/rooms/{room}/outgoing/{hook}", d.apiDropOutgoing},
		{"GET /api/v1/rooms/{room}/outgoing/{hook}/deliveries", d.apiDeliveries},
		{"POST /api/v1/rooms/{room}/outgoing/{hook}/deliveries", d.apiDeliver},
	}
}

func (d *Door) routes() http.Handler {
	mux := http.NewServeMux()
	for _, p := range d.pages() {
		mux.HandleFunc(p.pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := d.visit(w, r)
			if err == nil && r.URL.Query().Get("locale") != "" {
				d.setCookie(w, r, localeCookie, string(v.lang), 365*24*3600, false)
			}
			if err == nil && v.me().ID != 0 {
				w.Header().Set("Howdah-Person", strconv.FormatInt(v.me().ID, 10)) // whose page it is, for what keeps pages (sw.js)
			}
			if err == nil && !p.open && v.me().ID == 0 {
				next := r.URL.RequestURI()
				if r.Method != http.MethodGet {
					next = "/"
				}
				redirect(v, "/sign-in?next="+escape(next))
				return
			}
			if err == nil && v.session.TokenID != 0 {
				err = v.allows(account.All) // pages hold what is a person's alone
			}
			if err == nil && !p.open && v.session.Owes && !strings.HasPrefix(r.URL.Path, securityPath) {
				redirect(v, securityPath)
				return
			}
			if err == nil {
				err = p.handle(v)
			}
			if err != nil {
				d.fail(w, r, err)
			}
		})
	}
	for _, c := range d.calls() {
		mux.HandleFunc(c.pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := d.visit(w, r)
			if err == nil && v.me().ID == 0 {
				err = fault.New(fault.Unauthenticated, "account.sign_in")
			}
			if err == nil {
				err = v.within(c.pattern)
			}
			if err == nil {
				err = settled(v.session)
			}
			var value any
			if err == nil {
				value, err = c.handle(v)
			}
			switch {
			case err != nil:
				d.fail(w, r, err)
			case value == any(answered):
			case value == nil:
				w.WriteHeader(http.StatusNoContent)
			default:
				writeJSON(w, r, http.StatusOK, value)
			}
		})
	}
	mux.HandleFunc("GET /api/v1/live", d.live)
	mux.HandleFunc("POST "+hooksPath+"{token}", d.hook)
	mux.HandleFunc("GET /api/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		write(w, r, http.StatusOK, openAPI)
	})
	mux.HandleFunc("GET /static/{hash}/{path...}", d.static)
	mux.HandleFunc("GET /sw.js", d.worker)
	mux.HandleFunc("GET /manifest.webmanifest", d.manifest)
	mux.HandleFunc("GET /healthz", d.health)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { d.fail(w, r, fault.New(fault.NotFound, "web.no_page")) })
	return mux
}

// health is for load balancers and the waiting page: 200 while people can talk, 503 with the reason while they cannot.
func (d *Door) health(w http.ResponseWriter, r *http.Request) {
	_, err := d.accounts.IsSetUp(r.Context())
	if trouble := d.trouble(); trouble != nil {
		err = trouble
	}
	if err != nil {
		waiting(w, r, err)
		return
	}
	answer := object{"status": "ok"}
	if d.options.Warning != nil {
		if warning := d.options.Warning(); warning != nil {
			answer["warning"] = failure(requestLocale(r), fault.Of(warning))
		}
	}
	writeJSON(w, r, http.StatusOK, answer)
}

func waiting(w http.ResponseWriter, r *http.Request, why error) {
	writeJSON(w, r, http.StatusServiceUnavailable, object{"status": "waiting", "error": failure(requestLocale(r), fault.Of(why))})
}

// number reads an id from the path; what is no number names nothing.
func (v *visit) number(name string) (int64, error) {
	n, err := strconv.ParseInt(v.r.PathValue(name), 10, 64)
	if err != nil || n <= 0 {
		return 0, fault.New(fault.NotFound, "web.no_page")
	}
	return n, nil
}

// numbers reads two of the path.
func (v *visit) numbers(one, other string) (a, b int64, err error) {
	if a, err = v.number(one); err == nil {
		b, err = v.number(other)
	}
	return a, b, err
}

// query reads a number from the query; 0 where it is not given.
func (v *visit) query(name string) (int64, error) {
	raw := v.r.URL.Query().Get(name)
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "web.bad_number", fault.Args{"name": name})
	}
	return n, nil
}

// body reads a JSON object into value; unknown fields and anything after the object are refused.
func (v *visit) body(value any) error {
	if kind := v.r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		return fault.New(fault.Invalid, "web.not_json")
	}
	decoder := json.NewDecoder(v.r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return fault.Wrap(err, fault.Invalid, "web.bad_json", fault.Args{"message": jsonMessage(err)})
	}
	if decoder.Decode(new(any)) != io.EOF {
		return fault.New(fault.Invalid, "web.bad_json", fault.Args{"message": "more than one value"})
	}
	return nil
}

func jsonMessage(err error) string { return strings.TrimPrefix(err.Error(), "json: ") }

// form reads a form's fields.
func (v *visit) form() error {
	if err := v.r.ParseForm(); err != nil {
		return fault.Wrap(err, fault.Invalid, "web.bad_form")
	}
	return nil
}

func (v *visit) field(name string) string { return v.r.PostForm.Get(name) }

func (d *Door) setCookie(w http.ResponseWriter, r *http.Request, name, value string, seconds int, hidden bool) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, HttpOnly: hidden, Secure: d.secure(r), SameSite: http.SameSiteLaxMode})
}

// signedIn leads on somebody who has just got in.
func (d *Door) signedIn(v *visit, who account.Person, token string, next string) error {
	err := d.keep(v, who, token)
	if err == nil {
		redirect(v, next)
	}
	return err
}

// keep gives the browser its session, and what it is known again by the next time.
func (d *Door) keep(v *visit, who account.Person, token string) error {
	device, err := d.accounts.Remember(v.ctx(), who.ID, client(v.r))
	if err != nil {
		return err
	}
	if device != "" {
		d.setCookie(v.w, v.r, deviceCookie, device, 400*24*3600, true)
	}
	d.setCookie(v.w, v.r, sessionCookie, token, 400*24*3600, true)
	return nil
}

// settled refuses who owes the house a second factor.
func settled(s account.Session) error {
	if s.Owes {
		return fault.New(fault.Forbidden, "account.factor_owed")
	}
	return nil
}

// redirect leads on after a form; next is a path of ours (see local).
func redirect(v *visit, next string) { http.Redirect(v.w, v.r, next, http.StatusSeeOther) }

// local lets through only a path of this house, so that nobody is led away by a link to the sign-in page.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.HasPrefix(next, "/\\") || strings.ContainsAny(next, "\r\n\t") {
		return "/"
	}
	return next
}

func escape(s string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "#", "%23", "+", "%2B", "?", "%3F", " ", "%20").Replace(s)
}

package hook

import (
	"fmt"
	"strings"

	"howdah/internal/fault"
)

// githubPayload is what of GitHub's events we tell (docs.github.com, "Webhook events and payloads").
type githubPayload struct {
	t          Texts
	Action     string `json:"action"`
	Zen        string `json:"zen"`
	Ref        string `json:"ref"`
	RefType    string `json:"ref_type"`
	Compare    string `json:"compare"`
	Forced     bool   `json:"forced"`
	Deleted    bool   `json:"deleted"`
	Created    bool   `json:"created"`
	Sender     githubUser
	Repository struct {
		FullName string `json:"full_name"`
		HTMLURL  string `json:"html_url"`
	}
	Organization struct{ Login string }
	Commits      []struct {
		ID, Message, URL string
		Author           struct{ Name, Username string }
	}
	PullRequest *githubIssue `json:"pull_request"`
	Issue       *githubIssue `json:"issue"`
	Release     *struct {
		TagName    string `json:"tag_name"`
		Name       string
		HTMLURL    string `json:"html_url"`
		Body       string
		Prerelease bool
	}
	Comment *struct {
		HTMLURL string `json:"html_url"`
		Body    string
	}
	Review *struct {
		HTMLURL string `json:"html_url"`
		Body    string
		State   string
	}
	Label    *struct{ Name string }
	Assignee *githubUser
	Run      *struct {
		Name, Conclusion string
		Branch           string `json:"head_branch"`
		HTMLURL          string `json:"html_url"`
	} `json:"workflow_run"`
}

type githubUser struct{ Login string }

type githubIssue struct {
	Number  int
	Title   string
	HTMLURL string `json:"html_url"`
	Body    string
	Merged  bool
	Draft   bool
	Base    struct{ Ref string }
	Head    struct{ Ref string }
}

// mostCommits of a push are listed.
const mostCommits = 10

// GitHub reads a payload of GitHub's webhooks, whose event the header X-GitHub-Event names, as Markdown in the words of t. Of what nobody would want to be told the text is "".
func GitHub(event string, raw []byte, t Texts) (string, error) {
	p := githubPayload{t: t}
	if err := decode(raw, &p); err != nil {
		return "", err
	}
	where := p.Repository.FullName
	if where == "" {
		where = p.Organization.Login
	}
	where = anchor(words(clip(where, 140)), p.Repository.HTMLURL)
	who := "**" + words(clip(p.Sender.Login, 80)) + "**"
	text := ""
	switch event {
	case "ping":
		text = t("hook.github.ping", fault.Args{"where": where})
		if p.Zen != "" {
			text += " *" + words(clip(p.Zen, 200)) + "*"
		}
		return text, nil
	case "push":
		text = p.push(who)
	case "pull_request":
		text = p.issue(p.PullRequest, who)
	case "issues":
		text = p.issue(p.Issue, who)
	case "issue_comment", "pull_request_review_comment":
		on := p.Issue
		if on == nil {
			on = p.PullRequest
		}
		if p.Action == "created" && on != nil && p.Comment != nil {
			text = t("hook.github.comment", fault.Args{"who": who, "did": anchor(t("hook.github.commented"), p.Comment.HTMLURL), "on": on.link()}) + excerpt(p.Comment.Body)
		}
	case "pull_request_review":
		if p.Action == "submitted" && p.PullRequest != nil && p.Review != nil && (p.Review.State != "commented" || p.Review.Body != "") {
			dot, did := "💬", t("hook.github.reviewed")
			switch p.Review.State {
			case "approved":
				dot, did = "✅", t("hook.github.approved")
			case "changes_requested":
				dot, did = "🔁", t("hook.github.changes")
			}
			text = dot + " " + t("hook.github.review", fault.Args{"who": who, "did": anchor(did, p.Review.HTMLURL), "on": p.PullRequest.link()}) + excerpt(p.Review.Body)
		}
	case "release":
		if p.Action == "published" && p.Release != nil {
			name := p.Release.Name
			if name == "" {
				name = p.Release.TagName
			}
			args := fault.Args{"who": who, "name": anchor(words(clip(name, 140)), p.Release.HTMLURL)}
			if text = t("hook.github.release", args); p.Release.Prerelease {
				text = t("hook.github.prerelease", args)
			}
			text += excerpt(p.Release.Body)
		}
	case "create", "delete":
		args := fault.Args{"who": who, "name": code(p.Ref)}
		switch event + " " + p.RefType {
		case "create tag":
			text = t("hook.github.tag_created", args)
		case "create branch":
			text = t("hook.github.branch_created", args)
		case "delete tag":
			text = t("hook.github.tag_deleted", args)
		case "delete branch":
			text = t("hook.github.branch_deleted", args)
		}
	case "workflow_run":
		if p.Action == "completed" && p.Run != nil && p.Run.Conclusion != "success" && p.Run.Conclusion != "skipped" && p.Run.Conclusion != "neutral" && p.Run.Conclusion != "" {
			text = t("hook.github.run", fault.Args{"name": anchor(words(clip(p.Run.Name, 140)), p.Run.HTMLURL), "branch": code(p.Run.Branch), "why": words(clip(p.Run.Conclusion, 40))})
		}
	}
	if text == "" {
		return "", nil
	}
	head, rest, _ := strings.Cut(text, "\n")
	text = head + " · " + where
	if rest != "" {
		text += "\n" + rest
	}
	return text, nil
}

func (p *githubPayload) push(who string) string {
	ref := p.Ref
	if _, name, ok := strings.Cut(strings.TrimPrefix(p.Ref, "refs/"), "/"); ok {
		ref = name
	}
	branch := code(ref)
	switch {
	case strings.HasPrefix(p.Ref, "refs/tags/"):
		return "" // "create" and "delete" tell of tags
	case p.Deleted, len(p.Commits) == 0 && !p.Forced:
		return ""
	case len(p.Commits) == 0:
		return p.t("hook.github.forced", fault.Args{"who": who, "did": anchor(p.t("hook.github.force_pushed"), p.Compare), "branch": branch})
	}
	args := fault.Args{"who": who, "commits": anchor(p.t("hook.github.commits", fault.Args{"n": len(p.Commits)}), p.Compare), "branch": branch}
	text := p.t("hook.github.push", args)
	if p.Forced {
		text = p.t("hook.github.force_push", args)
	}
	for i, c := range p.Commits {
		if i == mostCommits {
			text += "\n- " + p.t("hook.more", fault.Args{"n": len(p.Commits) - i})
			break
		}
		first, _, _ := strings.Cut(c.Message, "\n")
		text += "\n- " + anchor(code(c.ID[:min(len(c.ID), 7)]), c.URL) + " " + words(clip(first, 140))
		if c.Author.Name != "" {
			text += " — " + words(clip(c.Author.Name, 80))
		}
	}
	return text
}

// issue tells of an issue or a pull request, where its action is one that people act on.
func (p *githubPayload) issue(i *githubIssue, who string) string {
	if i == nil {
		return ""
	}
	what := p.t("hook.github.issue")
	switch {
	case i == p.PullRequest && i.Draft:
		what = p.t("hook.github.draft")
	case i == p.PullRequest:
		what = p.t("hook.github.pull_request")
	}
	args := fault.Args{"who": who, "what": what, "which": i.link()}
	text := ""
	switch p.Action {
	case "opened":
		text = p.t("hook.github.opened", args)
	case "reopened":
		text = p.t("hook.github.reopened", args)
	case "closed":
		if text = p.t("hook.github.closed", args); i.Merged {
			text = p.t("hook.github.merged", args)
		}
	case "ready_for_review":
		text = p.t("hook.github.ready", args)
	case "transferred":
		text = p.t("hook.github.transferred", args)
	case "deleted":
		text = p.t("hook.github.deleted", args)
	default:
		return ""
	}
	if i.Base.Ref != "" && p.Action != "deleted" {
		text += " (" + code(i.Head.Ref) + " → " + code(i.Base.Ref) + ")"
	}
	if p.Action == "opened" {
		text += excerpt(i.Body)
	}
	return text
}

func (i *githubIssue) link() string {
	return anchor(fmt.Sprintf("#%d %s", i.Number, words(clip(i.Title, 200))), i.HTMLURL)
}

// code is a name in backquotes.
func code(s string) string {
	s = strings.ReplaceAll(strings.Join(strings.Fields(clip(s, 140)), " "), "`", "'")
	if s == "" {
		return "?"
	}
	return "`" + s + "`"
}

// excerpt is the beginning of what somebody wrote, as a quote.
func excerpt(s string) string {
	var kept []string
	n := 0
	for line := range strings.Lines(s) {
		line = words(clip(line, 300))
		if line == "" || strings.HasPrefix(line, `\<!--`) {
			continue
		}
		if n++; n > 4 {
			kept = append(kept, "…")
			break
		}
		kept = append(kept, line)
	}
	if len(kept) == 0 {
		return ""
	}
	return "\n" + quoted(strings.Join(kept, "\n"))
}

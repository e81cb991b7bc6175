package hook

import (
	"fmt"
	"strings"
)

// githubPayload is what of GitHub's events we tell (docs.github.com, "Webhook events and payloads").
type githubPayload struct {
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

// GitHub reads a payload of GitHub's webhooks, whose event the header X-GitHub-Event names, as Markdown. Of what nobody would want to be told the text is "".
func GitHub(event string, raw []byte) (string, error) {
	var p githubPayload
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
		text = "🏓 " + where + " is connected."
		if p.Zen != "" {
			text += " *" + words(clip(p.Zen, 200)) + "*"
		}
		return text, nil
	case "push":
		text = p.push(who)
	case "pull_request":
		text = p.issue(p.PullRequest, "pull request", who)
	case "issues":
		text = p.issue(p.Issue, "issue", who)
	case "issue_comment", "pull_request_review_comment":
		on := p.Issue
		if on == nil {
			on = p.PullRequest
		}
		if p.Action == "created" && on != nil && p.Comment != nil {
			text = fmt.Sprintf("💬 %s %s %s%s", who, anchor("commented on", p.Comment.HTMLURL), on.link(), excerpt(p.Comment.Body))
		}
	case "pull_request_review":
		if p.Action == "submitted" && p.PullRequest != nil && p.Review != nil && (p.Review.State != "commented" || p.Review.Body != "") {
			did := map[string]string{"approved": "✅ %s %s %s%s", "changes_requested": "🔁 %s %s %s%s"}[p.Review.State]
			said := map[string]string{"approved": "approved", "changes_requested": "asks for changes in"}[p.Review.State]
			if did == "" {
				did, said = "💬 %s %s %s%s", "reviewed"
			}
			text = fmt.Sprintf(did, who, anchor(said, p.Review.HTMLURL), p.PullRequest.link(), excerpt(p.Review.Body))
		}
	case "release":
		if p.Action == "published" && p.Release != nil {
			name := p.Release.Name
			if name == "" {
				name = p.Release.TagName
			}
			what := "release"
			if p.Release.Prerelease {
				what = "pre-release"
			}
			text = fmt.Sprintf("🚀 %s published the %s **%s**%s", who, what, anchor(words(clip(name, 140)), p.Release.HTMLURL), excerpt(p.Release.Body))
		}
	case "create", "delete":
		if p.RefType == "tag" || p.RefType == "branch" {
			text = fmt.Sprintf("🏷️ %s %sd the %s %s", who, event, p.RefType, code(p.Ref))
		}
	case "workflow_run":
		if p.Action == "completed" && p.Run != nil && p.Run.Conclusion != "success" && p.Run.Conclusion != "skipped" && p.Run.Conclusion != "neutral" && p.Run.Conclusion != "" {
			text = fmt.Sprintf("❌ %s on %s: %s", anchor(words(clip(p.Run.Name, 140)), p.Run.HTMLURL), code(p.Run.Branch), words(clip(p.Run.Conclusion, 40)))
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
		return fmt.Sprintf("⚠️ %s %s %s", who, anchor("force-pushed", p.Compare), branch)
	}
	did := "pushed"
	if p.Forced {
		did = "force-pushed"
	}
	text := fmt.Sprintf("📦 %s %s %s to %s", who, did, anchor(plural(len(p.Commits), "commit", "commits"), p.Compare), branch)
	for i, c := range p.Commits {
		if i == mostCommits {
			text += fmt.Sprintf("\n- … and %d more", len(p.Commits)-i)
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
func (p *githubPayload) issue(i *githubIssue, what, who string) string {
	if i == nil {
		return ""
	}
	did := map[string]string{"opened": "🟢 %s opened the %s %s", "reopened": "🟢 %s reopened the %s %s", "closed": "⚪ %s closed the %s %s",
		"ready_for_review": "🟢 %s says ready for review: the %s %s", "transferred": "⚪ %s transferred the %s %s", "deleted": "⚪ %s deleted the %s %s"}[p.Action]
	if p.Action == "closed" && i.Merged {
		did = "🟣 %s merged the %s %s"
	}
	if did == "" {
		return ""
	}
	if i.Draft {
		what = "draft " + what
	}
	text := fmt.Sprintf(did, who, what, i.link())
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

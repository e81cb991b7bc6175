package ui

// Key is what a key, or several of them, does on the pages of the house. The guide has the same table; a test compares them.
type Key struct {
	Keys []string // as they are written on keyboards; on a Mac, Ctrl is ⌘
	Does string   // key of a text
}

// Keyboard is all keys, by where they do what they do. That of the lines holds those that the buttons beside a message name (data-key).
var Keyboard = []struct {
	Where string // key of a text
	Keys  []Key
}{
	{"web.keys.anywhere", []Key{
		{[]string{"Ctrl-K"}, "web.keys.palette"},
		{[]string{"/", "Ctrl-Shift-F"}, "web.keys.search"},
		{[]string{"?", "Ctrl-/"}, "web.keys.keys"},
	}},
	{"web.keys.box", []Key{
		{[]string{"Enter"}, "web.keys.send"},
		{[]string{"Shift-Enter"}, "web.keys.newline"},
		{[]string{"↑"}, "web.keys.last"},
		{[]string{"Esc"}, "web.keys.leave"},
		{[]string{"@", ":", "/"}, "web.keys.offer"},
		{[]string{"Tab"}, "web.keys.take"},
		{[]string{"Shift-Tab"}, "web.keys.lines"},
	}},
	{"web.keys.line", []Key{
		{[]string{"↑", "↓", "Home", "End"}, "web.keys.move"},
		{[]string{"+"}, "web.keys.react"},
		{[]string{"t"}, "web.keys.reply"},
		{[]string{"q"}, "web.keys.quote"},
		{[]string{"p"}, "web.keys.pin"},
		{[]string{"s"}, "web.keys.save"},
		{[]string{"e"}, "web.keys.edit"},
		{[]string{"Tab"}, "web.keys.inside"},
		{[]string{"Esc"}, "web.keys.outside"},
	}},
}

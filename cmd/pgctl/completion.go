package main

import (
	stdbytes "bytes"
	"context"
	_ "embed" // of the scripts
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/client"
)

// The scripts ask pgctl itself, so that they need not change with it.
var (
	//go:embed completion/pgctl.bash
	bashScript string
	//go:embed completion/pgctl.zsh
	zshScript string
	//go:embed completion/pgctl.fish
	fishScript string
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints what a shell sources to complete pgctl's commands, flags and nodes.
func (c *completionCmd) Run(env *env) error {
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	_, err := io.WriteString(env.out, script)
	return err
}

// completeCmd answers the scripts: pgctl __complete -- WORD… with the words after the
// name of the program, the last of them unfinished or empty.
type completeCmd struct {
	Words []string `arg:"" optional:""`
}

// Run prints what the last word may become: in the first line whether these are files,
// and else one in each line, with a tab and what it means.
func (c *completeCmd) Run(ctx context.Context, parsed *kong.Context, env *env) error {
	out := completer{model: parsed.Model.Node, members: func(global []string) []client.ClusterMember {
		return askMembers(ctx, global)
	}}.complete(c.Words)
	var b strings.Builder
	if out.files {
		b.WriteString("files\n")
	} else {
		b.WriteString("words\n")
	}
	for _, o := range out.options {
		help, _, _ := strings.Cut(o.help, "\n")
		b.WriteString(strings.TrimRight(o.word+"\t"+cut(help, width), "\t") + "\n")
	}
	_, err := io.WriteString(env.out, b.String())
	return err
}

// askMembers asks as the command that is being typed would, but not for long.
func askMembers(ctx context.Context, global []string) []client.ClusterMember {
	var out stdbytes.Buffer
	args := append(slices.Clone(global), "status", "--json", "--timeout", secondPatience.String())
	_ = run(ctx, args, strings.NewReader(""), &out, io.Discard) // whatever its exit code
	var c client.Cluster
	if json.Unmarshal(out.Bytes(), &c) != nil {
		return nil // no names then
	}
	return c.Members
}

// option is a word that the last one may become.
type option struct{ word, help string }

type options struct {
	options []option
	files   bool
}

// completer knows the command line from kong's model of it.
type completer struct {
	model   *kong.Node
	members func(global []string) []client.ClusterMember
}

// typed is what the words before the last one stand for.
type typed struct {
	node    *kong.Node
	flags   []*kong.Flag
	global  []string   // flags before which there was no command, as typed
	waiting *kong.Flag // has no value yet
	args    int        // positional ones
	noFlags bool       // -- was typed
}

func (c completer) complete(words []string) options {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	t := c.read(words[:len(words)-1])
	if t.waiting != nil {
		return c.values(t, t.waiting.Value, "", last)
	}
	if name, value, ok := strings.Cut(last, "="); ok && strings.HasPrefix(last, "--") && !t.noFlags {
		if f := t.flag(name); f != nil {
			return c.values(t, f.Value, name+"=", value)
		}
		return options{}
	}
	if strings.HasPrefix(last, "-") && !t.noFlags {
		return matching(t.flagOptions(), last)
	}
	var out options
	if t.args == 0 {
		for _, n := range t.node.Children {
			if !n.Hidden {
				out.options = append(out.options, option{n.Name, n.Help})
			}
		}
	}
	out = matching(out.options, last)
	if v := t.positional(); v != nil {
		more := c.values(t, v, "", last)
		out.options, out.files = append(out.options, more.options...), more.files
	}
	return out
}

// read follows the words through the commands.
func (c completer) read(words []string) typed {
	t := typed{node: c.model, flags: c.model.Flags}
	for _, w := range words {
		switch {
		case t.waiting != nil:
			t.keep(t.waiting, w)
			t.waiting = nil
		case t.noFlags:
			t.args++
		case w == "--":
			t.noFlags = true
		case strings.HasPrefix(w, "-") && w != "-":
			name, _, valued := strings.Cut(w, "=")
			f := t.flag(name)
			if f == nil {
				continue
			}
			t.keep(f, w)
			if !valued && !f.IsBool() && !f.IsCounter() {
				t.waiting = f
			}
		default:
			t.enter(w)
		}
	}
	if t.node.DefaultCmd != nil {
		t.flags = append(t.flags, t.node.DefaultCmd.Flags...)
	}
	return t
}

// keep remembers a word of a flag that every command has.
func (t *typed) keep(f *kong.Flag, w string) {
	root := t.node
	for root.Parent != nil {
		root = root.Parent
	}
	if slices.Contains(root.Flags, f) && !slices.Contains([]string{"help", "timeout", "json"}, f.Name) {
		t.global = append(t.global, w)
	}
}

// enter takes a word that is no flag.
func (t *typed) enter(w string) {
	i := slices.IndexFunc(t.node.Children, func(n *kong.Node) bool { return n.Name == w })
	if i < 0 || t.args > 0 {
		t.args++
		return
	}
	t.node = t.node.Children[i]
	t.flags = slices.Concat(t.flags, t.node.Flags)
}

// flag returns the flag called name, with its dashes, or nil.
func (t *typed) flag(name string) *kong.Flag {
	for _, f := range t.flags {
		if name == "--"+f.Name || (f.Short != 0 && name == "-"+string(f.Short)) {
			return f
		}
	}
	return nil
}

func (t *typed) flagOptions() []option {
	var out []option
	for _, f := range t.flags {
		if !f.Hidden {
			out = append(out, option{"--" + f.Name, f.Help})
		}
	}
	return out
}

// positional returns the argument whose turn it is, or nil.
func (t *typed) positional() *kong.Value {
	args := t.node.Positional
	if n := len(args); t.args >= n && n > 0 && args[n-1].IsCumulative() {
		return args[n-1]
	}
	if t.args >= len(args) {
		return nil
	}
	return args[t.args]
}

// values are what v may be: of its enum, of its tag complete, or the nodes of the
// cluster where v is called like one.
func (c completer) values(t typed, v *kong.Value, prefix, begun string) options {
	var out []option
	known, tagged := v.Tag.Get("complete"), v.Tag.Has("complete")
	switch {
	case v.Enum != "":
		for _, e := range v.EnumSlice() {
			if e != "" {
				out = append(out, option{e, ""})
			}
		}
	case tagged:
		for word := range strings.FieldsSeq(known) {
			out = append(out, option{word, ""})
		}
	case v.Tag.Type == "path" || v.Tag.Type == "existingfile":
		return options{files: true}
	case slices.Contains([]string{"node", "other", "old", "to"}, v.Name):
		for _, m := range c.members(t.global) {
			out = append(out, option{string(m.ID), fmt.Sprintf("%s, %s", m.HTTP, tagsOf(m))})
		}
	}
	for i := range out {
		out[i].word = prefix + out[i].word
	}
	return matching(out, prefix+begun)
}

// matching keeps what begins like the word that is being typed.
func matching(all []option, begun string) options {
	return options{options: slices.DeleteFunc(all, func(o option) bool { return !strings.HasPrefix(o.word, begun) })}
}

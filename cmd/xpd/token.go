package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/xpd-platform/xpd/internal/access"
)

// tokenCmd edits the file that xpd run --tokens follows.
type tokenCmd struct {
	New    tokenNewCmd    `cmd:"" help:"Make a token, and print it: this is the only time that it is shown."`
	List   tokenListCmd   `cmd:"" help:"List the tokens of a file by name."`
	Revoke tokenRevokeCmd `cmd:"" help:"Take a token out of a file."`
}

// tokenFile is what every command on tokens wants.
type tokenFile struct {
	File string `required:"" env:"XPD_TOKENS" type:"path" help:"Token file: the hashes of the tokens, for xpd run --tokens."`
	JSON bool   `help:"Print JSON for scripts."`
}

type tokenNewCmd struct {
	tokenFile

	Name    string   `arg:"" help:"Whose token it is: a service or a person. Logs and the audit say it."`
	Roles   []string `required:"" placeholder:"ROLE" help:"What it may do: assign, ingest, experimenter, dba."`
	Expires lifetime `placeholder:"90d" help:"When it ends: in so many days (90d) or hours (12h), or a time like 2027-01-31T12:00:00Z; never without this."`
}

// tokenJSON is a token as scripts see it.
type tokenJSON struct {
	Name    string        `json:"name"`
	Roles   []access.Role `json:"roles"`
	Expires *time.Time    `json:"expires,omitempty"`
	Expired bool          `json:"expired,omitempty"`
	Token   string        `json:"token,omitempty"` // of a new one only
}

func describeToken(e access.Entry, now time.Time) tokenJSON {
	t := tokenJSON{Name: e.Name, Roles: e.Roles, Expired: e.Expired(now)}
	if !e.Expires.IsZero() {
		t.Expires = &e.Expires
	}
	return t
}

// Run prints the token alone to stdout, so that it can be sent into a file.
func (c *tokenNewCmd) Run(ctx context.Context, s streams) error {
	roles, err := access.ParseRoles(c.Roles)
	if err != nil {
		return fmt.Errorf("--roles: %w", err)
	}
	if _, err := access.ParseName(c.Name); err != nil {
		return err
	}
	now := time.Now()
	expires, err := c.Expires.from(now)
	if err != nil {
		return err
	}
	token, hash, err := access.NewToken()
	if err != nil {
		return err
	}
	e := access.Entry{Name: c.Name, Roles: roles, Hash: hash, Expires: expires}
	if err := access.Add(ctx, c.File, e); err != nil {
		return err
	}
	if c.JSON {
		out := describeToken(e, now)
		out.Token = token
		err = printJSON(s.out, out)
	} else {
		_, err = fmt.Fprintln(s.out, token)
	}
	if err != nil {
		return fmt.Errorf("%s has a token that could not be shown: revoke it and make another: %w", c.Name, err)
	}
	fmt.Fprintf(s.err, "%s may %s, %s. Only the hash is kept, in %s: copy that file to every node; they follow by themselves.\n",
		c.Name, joinRoles(roles), validUntil(e, now), c.File)
	return nil
}

type tokenListCmd struct{ tokenFile }

// Run lists the tokens in the order of the file.
func (c *tokenListCmd) Run(s streams) error {
	entries, err := access.ReadFile(c.File)
	if err != nil {
		return explainMissing(err)
	}
	now := time.Now()
	if c.JSON {
		list := make([]tokenJSON, 0, len(entries))
		for _, e := range entries {
			list = append(list, describeToken(e, now))
		}
		return printJSON(s.out, list)
	}
	if len(entries) == 0 {
		fmt.Fprintf(s.err, "no tokens in %s: xpd token new makes one\n", c.File)
		return nil
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tROLES\tVALID")
	for _, e := range entries {
		fmt.Fprintf(w, "%s\t%s\t%s\n", e.Name, joinRoles(e.Roles), validUntil(e, now))
	}
	return w.Flush()
}

type tokenRevokeCmd struct {
	tokenFile

	Name string `arg:"" help:"Whose token it is."`
}

// Run prints the line that is gone, which brings the token back if it was the wrong one.
func (c *tokenRevokeCmd) Run(ctx context.Context, s streams) error {
	gone, err := access.Revoke(ctx, c.File, c.Name)
	if err != nil {
		return explainMissing(err)
	}
	if c.JSON {
		return printJSON(s.out, describeToken(gone, time.Now()))
	}
	fmt.Fprintf(s.err, "%s is revoked where nodes use %s, within two seconds; copy the file to those that have their own.\n"+
		"This line in it would undo that:\n%s\n", gone.Name, c.File, gone)
	return nil
}

func explainMissing(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: xpd token new makes it", err)
	case errors.Is(err, access.ErrUnknown):
		return fmt.Errorf("%w: xpd token list shows the names", err)
	}
	return err
}

func joinRoles(roles []access.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ",")
}

func validUntil(e access.Entry, now time.Time) string {
	switch {
	case e.Expires.IsZero():
		return "for ever"
	case e.Expired(now):
		return "expired " + e.Expires.Format(time.RFC3339)
	}
	return "until " + e.Expires.Format(time.RFC3339)
}

// lifetime is 90d, 12h, a time, or nothing for one that does not end.
type lifetime string

// maxLifetime catches slips: a token for longer needs no end.
const maxLifetime = 10 * 366 * 24 * time.Hour

// from returns when a lifetime that begins now ends, or the zero time.
func (l lifetime) from(now time.Time) (time.Time, error) {
	if l == "" {
		return time.Time{}, nil
	}
	end, err := l.end(now)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("--expires: want days (90d), hours (12h) or a time like 2027-01-31T12:00:00Z, not %q", string(l))
	case end.Before(now.Add(time.Second)) || end.After(now.Add(maxLifetime)):
		return time.Time{}, fmt.Errorf("--expires: %s is not within the next ten years", end.Format(time.RFC3339))
	}
	return end, nil
}

func (l lifetime) end(now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(string(l), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return now.AddDate(0, 0, int(n)).UTC().Truncate(time.Second), err // of 16 bits
	}
	if at, err := time.Parse(time.RFC3339, string(l)); err == nil {
		return at.UTC(), nil
	}
	d, err := time.ParseDuration(string(l))
	return now.Add(d).UTC().Truncate(time.Second), err
}

package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// certsCmd is the private CA of a cluster.
type certsCmd struct {
	Dir       string   `required:"" type:"path" help:"Folder of the CA and of what it issues; not on a host of the cluster."`
	Cluster   string   `help:"The nodes, as xpd run takes them: NAME=HOST[:…],…. Nodes whose certificates are here already need not be named."`
	San       []string `name:"san" help:"Another name or address that nodes are reached by: of all of them, or NAME=HOST of one; repeat for more."`
	Name      string   `default:"xpd" help:"What a new CA is called."`
	Days      int      `default:"365" help:"Life of a node's certificate."`
	CADays    int      `name:"ca-days" default:"3650" help:"Life of a new CA."`
	Renew     bool     `xor:"what" help:"Renew every node's certificate, also one that is good for long."`
	RotateCA  bool     `name:"rotate-ca" xor:"what" help:"Begin to replace the CA: make another, and trust both."`
	DropOldCA bool     `name:"drop-old-ca" xor:"what" help:"End that: trust the new CA only."`
	JSON      bool     `help:"Print JSON for scripts."`
}

// localHosts are what every node is reached by from itself.
var localHosts = []string{"localhost", "127.0.0.1", "::1"} //nolint:gochecknoglobals // a constant list

// Run makes what is missing, renews what ends soon, and says what to do next.
func (c *certsCmd) Run(s streams) error {
	if c.Days < 1 || c.CADays < 1 {
		return errors.New("--days and --ca-days: want at least 1")
	}
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	const day = 24 * time.Hour
	r, err := certs.Make(certs.Order{
		Dir: c.Dir, Cluster: c.Name, Nodes: nodes,
		CALife: time.Duration(c.CADays) * day, NodeLife: time.Duration(c.Days) * day,
		Renew: c.Renew, RotateCA: c.RotateCA, DropOldCA: c.DropOldCA,
	})
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if c.JSON {
		return printJSON(s.out, r)
	}
	return c.print(s.out, r)
}

// nodes returns what the certificates of the named nodes are to say.
func (c *certsCmd) nodes() ([]certs.Request, error) {
	if c.Cluster == "" {
		if len(c.San) > 0 {
			return nil, errors.New("--san needs --cluster: name the nodes that it is for")
		}
		return nil, nil
	}
	members, err := pgcluster.ParseMembers(c.Cluster)
	if err != nil {
		return nil, fmt.Errorf("--cluster: %w", err)
	}
	nodes := make([]certs.Request, len(members))
	for i, m := range members {
		nodes[i] = certs.Request{Node: m.ID, Hosts: append([]string{m.Host}, localHosts...)}
	}
	for _, san := range c.San {
		name, host, one := strings.Cut(san, "=")
		if !one {
			name, host = "", san
		}
		used := false
		for i := range nodes {
			if host != "" && (!one || string(nodes[i].Node) == name) {
				nodes[i].Hosts = append(nodes[i].Hosts, host)
				used = true
			}
		}
		if !used {
			return nil, fmt.Errorf("--san %s: want HOST, or NAME=HOST of a node in --cluster", san)
		}
	}
	return nodes, nil
}

func (c *certsCmd) print(w io.Writer, r certs.Result) error {
	fmt.Fprintf(w, "CA %s, until %s: %s\n", r.CA, date(r.NotAfter), filepath.Join(c.Dir, certs.CAFile))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, n := range r.Nodes {
		did := n.Did
		if n.Why != "" {
			did += ": " + n.Why
		}
		fmt.Fprintf(table, "%s\tuntil %s\t%s\t%s\n", n.Node, date(n.NotAfter), strings.Join(n.Hosts, " "), did)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	_, err := io.WriteString(w, c.next(r))
	return err
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// next says what is to be done now.
func (c *certsCmd) next(r certs.Result) string {
	var b strings.Builder
	if changed := changedFolders(r); len(changed) > 0 {
		b.WriteString("Copy the files of each folder to its node, into the folder that --tls-dir of xpd run names:\n")
		for _, dir := range changed {
			fmt.Fprintf(&b, "  %s\n", dir)
		}
		b.WriteString("An xpd that runs takes them within seconds.\n")
	} else {
		b.WriteString("Nothing changed.\n")
	}
	switch {
	case r.CAs > 1 && len(r.OldCA) > 0:
		fmt.Fprintf(&b, "The CA is being replaced. Once every host trusts both: xpd certs --dir %s --renew, copy the files, then --drop-old-ca.\n", c.Dir)
	case r.CAs > 1:
		fmt.Fprintf(&b, "The CA is being replaced. Once every host has its new certificate: xpd certs --dir %s --drop-old-ca, and copy the files.\n", c.Dir)
	case time.Until(r.NotAfter) < time.Duration(c.Days)*24*time.Hour:
		fmt.Fprintf(&b, "The CA ends within the life of a new certificate: replace it with xpd certs --dir %s --rotate-ca.\n", c.Dir)
	}
	if r.CA == certs.DidMake || r.CA == certs.DidRotate {
		fmt.Fprintf(&b, "Keep %s off the hosts, and a copy of it safe: who has it can make nodes of this cluster.\n", filepath.Join(c.Dir, certs.CAKeyFile))
	}
	return b.String()
}

// changedFolders returns which files are to be copied.
func changedFolders(r certs.Result) []string {
	var all []string
	for _, n := range r.Nodes {
		if n.Did != certs.DidKeep {
			all = append(all, n.Dir)
		}
	}
	return all
}

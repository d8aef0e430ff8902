package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// nobody is the rule of a server that is not a primary: no commit can meet it.
// See the package comment.
const nobody = "ANY 1 (xpd_nobody)"

// settings are the parts of PostgreSQL's configuration that orders change.
type settings struct {
	Sync     string           `json:"sync"`     // synchronous_standby_names
	Upstream pgcluster.NodeID `json:"upstream"` // empty: detached
	Stream   uint64           `json:"stream"`   // epoch whose slot on the upstream to stream through
	Serving  bool             `json:"serving"`  // standbys may log in: only the slots of the epoch are there
	Writable bool             `json:"writable"` // sessions may write unless they say otherwise
	Locked   bool             `json:"locked"`   // the service role cannot log in over TCP
	Arming   bool             `json:"arming"`   // Sync was empty: not everybody waits yet
}

// detached are the settings of a standby that streams from nobody.
func detached() settings { return settings{Sync: nobody} }

// defaultSettings may be changed by Options.Settings.
func defaultSettings() map[string]string {
	return map[string]string{
		"checkpoint_timeout":             "5min",
		"hot_standby_feedback":           "off",
		"jit":                            "off", // compiling costs more than any statement of a request
		"log_line_prefix":                "%m [%p] %b %q%u@%d/%a ",
		"max_connections":                "200",
		"max_replication_slots":          "32",
		"max_slot_wal_keep_size":         "2GB", // of WAL that a standby which is away may hold back
		"max_wal_senders":                "16",
		"max_wal_size":                   "1GB",
		"shared_buffers":                 "128MB",
		"superuser_reserved_connections": "10",
		"tcp_keepalives_count":           "3",
		"tcp_keepalives_idle":            "5",
		"tcp_keepalives_interval":        "2",
		"wal_compression":                "on",
		"wal_keep_size":                  "512MB",
		"wal_level":                      "replica", // or logical; vet sees to it
		"wal_receiver_status_interval":   "1s",
		"wal_receiver_timeout":           "2s", // asks a silent upstream for a sign of life after half of it: the standby vouches for an idle primary whose xpd is gone
		"wal_retrieve_retry_interval":    "100ms",
		"wal_sender_timeout":             "4s", // a standby whose host fell silent counts as streaming until then
	}
}

// postgresqlConf renders postgresql.conf. It depends on nothing but its
// arguments, so that writing it again changes nothing.
func postgresqlConf(o Options, p paths, s settings) string {
	self := o.self()
	all := defaultSettings()
	maps.Copy(all, o.Settings)
	maps.Copy(all, map[string]string{
		"default_transaction_read_only": onOff(!s.Writable),
		"full_page_writes":              "on",
		"hot_standby":                   "on",
		"lc_messages":                   "C", // the barrier reads warnings
		"listen_addresses":              self.Host,
		"log_destination":               "stderr",
		"logging_collector":             "off",
		"port":                          strconv.Itoa(self.PGPort),
		"primary_conninfo":              primaryConninfo(o, p, s.Upstream),
		"primary_slot_name":             primarySlot(o, s),
		"recovery_target_timeline":      "latest",
		"restart_after_crash":           "off",
		"restore_command":               "",
		"synchronous_commit":            "on",
		"synchronous_standby_names":     s.Sync,
		"unix_socket_directories":       p.run,
		"unix_socket_permissions":       "0700",
		"wal_log_hints":                 "on", // pg_rewind needs them where there are no checksums
	})
	maps.Copy(all, tlsSettings(o, p))
	var b strings.Builder
	b.WriteString("# Written by xpd. Changes are overwritten.\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(all[name]))
	}
	return b.String()
}

// primaryConninfo names no password: libpq reads it from the passfile at every
// attempt, so removing that file keeps the node from streaming.
func primaryConninfo(o Options, p paths, upstream pgcluster.NodeID) string {
	m, ok := o.member(upstream)
	if !ok {
		return ""
	}
	params := map[string]string{
		"application_name":    string(o.Node),
		"connect_timeout":     "2",
		"gssencmode":          "disable",
		"host":                m.Host,
		"keepalives_count":    "3",
		"keepalives_idle":     "1",
		"keepalives_interval": "1",
		"passfile":            p.passfile(),
		"port":                strconv.Itoa(m.PGPort),
		"tcp_user_timeout":    "3000",
		"user":                ReplicationRole,
	}
	maps.Copy(params, tlsSource(o, p))
	return conninfo(params)
}

// primarySlot names the slot on the upstream.
func primarySlot(o Options, s settings) string {
	if s.Upstream == "" {
		return ""
	}
	return pgcluster.SlotName(s.Stream, o.Node)
}

// conninfo renders a libpq connection string.
func conninfo(params map[string]string) string {
	parts := make([]string, 0, len(params))
	for _, k := range slices.Sorted(maps.Keys(params)) {
		v := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(params[k])
		parts = append(parts, fmt.Sprintf("%s='%s'", k, v))
	}
	return strings.Join(parts, " ")
}

// hbaConf renders pg_hba.conf. The local socket is trusted because its folder
// lets only root and PostgreSQL's own user in. With TLS the agent's roles are let in
// over nothing else, and need a certificate beside the password.
func hbaConf(o Options, s settings) string {
	var b strings.Builder
	b.WriteString("# Written by xpd. Changes are overwritten.\n")
	b.WriteString("local all all trust\nlocal replication all trust\n") // of this host's own backups
	host, scram := o.hostRule(), "scram-sha-256"
	if o.TLS != nil {
		scram += " clientcert=verify-ca"
	}
	for _, addr := range memberAddresses(o.Members) {
		if s.Serving {
			fmt.Fprintf(&b, "%s replication %s %s %s\n", host, ReplicationRole, addr, scram)
		}
		fmt.Fprintf(&b, "%s all %s %s %s\n", host, AdminRole, addr, scram)
	}
	if s.Locked {
		scram = "reject"
	}
	fmt.Fprintf(&b, "%s all %s all %s\n", host, ServiceRole, scram)
	if o.TLS != nil { // an adopted rule must not let them in either
		fmt.Fprintf(&b, "hostnossl all %s,%s,%s all reject\n", AdminRole, ReplicationRole, ServiceRole)
	}
	return b.String()
}

// hostRule is what a rule for connections from elsewhere begins with.
func (o Options) hostRule() string {
	if o.TLS != nil {
		return "hostssl"
	}
	return "host"
}

// memberAddresses returns the members' hosts as pg_hba.conf writes them. A
// connection between two loopback addresses comes from 127.0.0.1 whatever the
// addresses are, hence the network.
func memberAddresses(members []pgcluster.Member) []string {
	var addrs []string
	for _, m := range members {
		ip, err := netip.ParseAddr(m.Host)
		switch {
		case m.Host == "localhost":
			addrs = append(addrs, "127.0.0.0/8", "::1/128")
		case err != nil:
			addrs = append(addrs, m.Host)
		case ip.Is4() && ip.IsLoopback():
			addrs = append(addrs, "127.0.0.0/8")
		default:
			addrs = append(addrs, netip.PrefixFrom(ip.WithZone(""), ip.BitLen()).String())
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

func quoteSetting(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(v) + "'"
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// writeConf brings the files in conf/ up to date with what is saved and agreed on.
func (a *Agent) writeConf() error {
	a.conf.writing.Lock()
	defer a.conf.writing.Unlock()
	var version uint64
	st := a.state.get()
	if st.Config != nil {
		version = st.Config.Version
	}
	o, complaints := a.options(), a.complaints()
	ad := a.adopted()
	if ad != nil && a.doubted() {
		ad = &adopted{} // of whose rules none is known to be right
	}
	if err := a.copyCerts(); err != nil { // before there is a file that names them
		return err
	}
	for path, content := range map[string]string{
		a.p.config(): postgresqlConf(o, a.p, st.Settings),
		a.p.hba():    hbaConf(o, st.Settings) + ad.hba(o, st.Settings),
		a.p.ident():  "# Written by xpd. Changes are overwritten.\n" + ad.ident(),
	} {
		if err := a.owner.replace(path, []byte(content)); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	served := a.running() != nil && !a.isForeign()
	a.publish(func(r *pgcluster.Report) {
		r.Refused = complaints
		if !served { // else confirm sets it, once it is known what waits for a restart
			r.Config = version
		}
	})
	return nil
}

// apply makes s the settings: on disk at once, in a running server soon. It does
// not wait for the server; see awaitSetting.
func (a *Agent) apply(change func(*settings)) error {
	// Saved before it is written: after a crash in between, the agent writes the
	// files again from what it saved.
	if _, err := a.save(func(s *saved) { change(&s.Settings) }); err != nil {
		return err
	}
	if err := a.writeConf(); err != nil {
		return err
	}
	if srv := a.running(); srv != nil && !srv.foreign {
		return srv.reload()
	}
	return nil
}

func (a *Agent) giveKey() error {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	line := fmt.Sprintf("*:*:*:%s:%s\n", ReplicationRole, escape.Replace(a.o.Secrets.Replication))
	if err := a.owner.replace(a.p.passfile(), []byte(line)); err != nil {
		return fmt.Errorf("write upstream password: %w", err)
	}
	return nil
}

func (a *Agent) takeKeyAway() error {
	if err := os.Remove(a.p.passfile()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove upstream password: %w", err)
	}
	return nil
}

package access

import (
	"net/http"
	"net/netip"
)

// Headers by which a node says for whom it passes a request on. They are believed
// only from a node, which shows the nodes' token in a header of its own: the usual one
// has the token of who asked. Clients that send them give nothing away and gain nothing.
const (
	forwardedForHeader = "X-Xpd-Forwarded-For"
	nodeTokenHeader    = "X-Xpd-Node-Token" //nolint:gosec // a name, not a token
)

// Forward makes out the same request as in, passed on to another node, which judges
// the client's token again. Whoever out is sent to learns the nodes' token.
func (g *Guard) Forward(out, in *http.Request) {
	out.Header.Del("Authorization")
	if v := in.Header.Values("Authorization"); len(v) == 1 {
		out.Header.Set("Authorization", v[0])
	}
	out.Header.Del(forwardedForHeader)
	out.Header.Del(nodeTokenHeader)
	if from := g.source(in); from.IsValid() && g.NodeToken != "" {
		out.Header.Set(forwardedForHeader, from.String())
		out.Header.Set(nodeTokenHeader, g.NodeToken)
	}
}

// Forwarded reports whether a node has passed r on. Headers alone do not make it so.
func (g *Guard) Forwarded(r *http.Request) bool {
	if g.NodeToken == "" || r.Header.Get(nodeTokenHeader) == "" {
		return false
	}
	d := digestOf(r.Header.Get(nodeTokenHeader))
	if d.same(&g.node) == 0 {
		return false
	}
	_, why := g.asNode(r.TLS, netip.Addr{})
	return why == nil
}

// source returns the address that a request comes from: that of the client, also of
// one whose request a node has passed on. It is invalid for what has none.
func (g *Guard) source(r *http.Request) netip.Addr {
	if g.Forwarded(r) {
		if a, err := netip.ParseAddr(r.Header.Get(forwardedForHeader)); err == nil {
			return a.Unmap().WithZone("")
		}
	}
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

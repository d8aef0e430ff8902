// Package netns makes hosts out of network namespaces: each has an address of its
// own on a bridge that only they and this process are on. Links between them are
// cut without a word, as a network does it: nobody is told, packets vanish.
//
// It needs root, iproute2 and iptables; Probe says what is missing. Everything in
// the kernel that belongs to a Network carries the id of its process in its name,
// and a watcher process removes all of it, with whatever still runs inside, when
// the Network is closed or its process has died. Nothing else is touched but for
// one rule that lets the bridge pass where FORWARD drops, as Docker leaves it.
package netns

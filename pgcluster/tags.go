package pgcluster

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var zoneName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// maxPriority bounds priorities on both sides of 0.
const maxPriority = 1000

// WithTags returns m with the given tags set: witness, zone=NAME, priority=NUMBER,
// nofailover and nosync. The last three take a value true or false too, and an
// empty zone is none.
func (m Member) WithTags(tags ...string) (Member, error) {
	for _, tag := range tags {
		name, value, valued := strings.Cut(tag, "=")
		var err error
		switch name {
		case "witness":
			err = setFlag(&m.Witness, tag, value, valued)
		case "nofailover":
			err = setFlag(&m.NoFailover, tag, value, valued)
		case "nosync":
			err = setFlag(&m.NoSync, tag, value, valued)
		case "zone":
			if !valued || (value != "" && !zoneName.MatchString(value)) {
				err = fmt.Errorf("tag %q: want zone= with letters, digits, dots, dashes or underscores", tag)
			}
			m.Zone = value
		case "priority":
			m.Priority, err = strconv.Atoi(value)
			if err != nil || m.Priority < -maxPriority || m.Priority > maxPriority {
				err = fmt.Errorf("tag %q: want priority= with a number from -%d to %d", tag, maxPriority, maxPriority)
			}
		default:
			err = fmt.Errorf("tag %q: want witness, zone=, priority=, nofailover or nosync", tag)
		}
		if err != nil {
			return Member{}, err
		}
	}
	return m, nil
}

func setFlag(to *bool, tag, value string, valued bool) error {
	if !valued {
		*to = true
		return nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("tag %q: want true or false", tag)
	}
	*to = on
	return nil
}

// tags returns the tags of m as WithTags reads them, each after a slash.
func (m Member) tags() string {
	var b strings.Builder
	if m.Witness {
		b.WriteString("/witness")
	}
	if m.Zone != "" {
		b.WriteString("/zone=" + m.Zone)
	}
	if m.Priority != 0 {
		b.WriteString("/priority=" + strconv.Itoa(m.Priority))
	}
	if m.NoFailover {
		b.WriteString("/nofailover")
	}
	if m.NoSync {
		b.WriteString("/nosync")
	}
	return b.String()
}

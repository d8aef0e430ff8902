package access

import (
	"fmt"
	"slices"
)

// Role is what somebody may do. Its values stand in token files.
type Role string

// Roles. RoleNode is that of the cluster's own nodes; no token of a file has it.
const (
	RoleAssign       Role = "assign"       // ask for treatments, confirm exposures
	RoleIngest       Role = "ingest"       // report events, import
	RoleExperimenter Role = "experimenter" // define experiments, read reports
	RoleDBA          Role = "dba"          // see and change the cluster
	RoleNode         Role = "node"
)

// TokenRoles returns the roles that a token can be given.
func TokenRoles() []Role {
	return []Role{RoleAssign, RoleIngest, RoleExperimenter, RoleDBA}
}

// ParseRole returns the role of a token that s names.
func ParseRole(s string) (Role, error) {
	r := Role(s)
	switch {
	case slices.Contains(TokenRoles(), r):
		return r, nil
	case r == RoleNode:
		return "", fmt.Errorf("no token has the role %q: nodes know each other by the cluster's secret", r)
	}
	return "", fmt.Errorf("there is no role %q: want one of %s", s, join(TokenRoles(), ", "))
}

// ParseRoles returns the roles in a list such as assign,ingest.
func ParseRoles(list []string) ([]Role, error) {
	var roles []Role
	for _, s := range list {
		r, err := ParseRole(s)
		if err != nil {
			return nil, err
		}
		if slices.Contains(roles, r) {
			return nil, fmt.Errorf("the role %s is named twice", r)
		}
		roles = append(roles, r)
	}
	if len(roles) == 0 {
		return nil, fmt.Errorf("no role: want some of %s", join(TokenRoles(), ", "))
	}
	return roles, nil
}

func join(roles []Role, sep string) string {
	var out []byte
	for i, r := range roles {
		if i > 0 {
			out = append(out, sep...)
		}
		out = append(out, r...)
	}
	return string(out)
}

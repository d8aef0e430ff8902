package failover

// Asker is who asked for a change, as far as is known.
type Asker struct {
	Name     string `json:"name,omitempty"`     // of the token; "" where none is asked for
	Operator string `json:"operator,omitempty"` // whom the client said it asks for; nobody checks it
	From     string `json:"from,omitempty"`     // address of the client
}

// String returns who asked, in the words of the history: "" if nobody said so.
func (a Asker) String() string {
	switch {
	case a.Operator == "":
		return a.Name
	case a.Name == "" || a.Name == a.Operator:
		return a.Operator
	}
	return a.Operator + ", token " + a.Name
}

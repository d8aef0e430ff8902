package agent

import "testing"

func TestWholeNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"100": 100, " 100 ": 100, "0x64": 100, "0144": 100, "99.6": 100, "1e2": 100, "-1": -1} {
		if n, ok := wholeNumber(text); n != want || !ok {
			t.Errorf("wholeNumber(%q) = %d, %t, want %d", text, n, ok, want)
		}
	}
	for _, text := range []string{"", "on", "100MB", "1e12", "NaN"} {
		if n, ok := wholeNumber(text); ok {
			t.Errorf("wholeNumber(%q) = %d, want none", text, n)
		}
	}
}

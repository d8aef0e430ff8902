package problem

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Decode reads the one JSON value that the request's body must be into v. It
// takes at most limit bytes. What is wrong with the body is returned as a *Problem.
func Decode(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return &Problem{Kind: MediaType(), Detail: "send Content-Type: application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return tooLarge(e.Limit)
		}
		return &Problem{Kind: BadJSON(), Detail: "the body could not be read to its end"}
	}
	return Unmarshal(body, v)
}

// Limit refuses requests with a body over limit bytes: before anything is done if they
// say how long it is, and otherwise as soon as a handler has read that far.
func Limit(limit int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > limit {
				_ = tooLarge(limit).Write(w) // the client has gone: nobody is left to tell
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			next.ServeHTTP(w, r)
		})
	}
}

func tooLarge(limit int64) *Problem {
	return &Problem{Kind: TooLarge(), Detail: fmt.Sprintf("at most %d bytes are accepted here", limit)}
}

// Unmarshal decodes data, which must be exactly one JSON value in UTF-8 without
// unknown fields. It returns a *Problem that names a field relative to v.
func Unmarshal(data []byte, v any) error {
	// encoding/json would turn broken bytes into U+FFFD, and two broken ids into one.
	if !utf8.Valid(data) {
		return &Problem{Kind: BadJSON(), Detail: "the body is not UTF-8"}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return jsonProblem(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &Problem{Kind: BadJSON(), Detail: fmt.Sprintf("more data follows the JSON value at byte %d", dec.InputOffset())}
	}
	return nil
}

func jsonProblem(err error) *Problem {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &Problem{Kind: Invalid(), Detail: "a JSON " + e.Value + " does not fit here", Field: e.Field}
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &Problem{Kind: BadJSON(), Detail: fmt.Sprintf("%s at byte %d", e.Error(), e.Offset)}
	}
	// encoding/json has no type for this one, and the field is worth naming.
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		field, unquoteErr := strconv.Unquote(quoted)
		if unquoteErr != nil {
			field = quoted
		}
		return &Problem{Kind: UnknownField(), Detail: "there is no such field", Field: field}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Problem{Kind: BadJSON(), Detail: "the body ends before its JSON value does"}
	}
	return &Problem{Kind: BadJSON(), Detail: err.Error()}
}

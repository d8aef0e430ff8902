package httpapi

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

// Largest bodies that are read.
const (
	maxBody      = 64 << 10
	maxBatchBody = 1 << 20
)

// decode reads the one JSON value that the request's body must be into v.
func decode(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return &problem{kindMediaType, "send Content-Type: application/json", ""}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return fmt.Errorf("read body: %w", err)
		}
		return &problem{kindBadJSON, "the body could not be read to its end", ""}
	}
	return strict(body, v)
}

// strict decodes data, which must be exactly one JSON value in UTF-8 without
// unknown fields. Its errors name a field relative to v.
func strict(data []byte, v any) error {
	// encoding/json would turn broken bytes into U+FFFD, and two broken ids into one.
	if !utf8.Valid(data) {
		return &problem{kindBadJSON, "the body is not UTF-8", ""}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return jsonProblem(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &problem{kindBadJSON, fmt.Sprintf("more data follows the JSON value at byte %d", dec.InputOffset()), ""}
	}
	return nil
}

func jsonProblem(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid(e.Field, "a JSON %s does not fit here", e.Value)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &problem{kindBadJSON, fmt.Sprintf("%s at byte %d", e.Error(), e.Offset), ""}
	}
	// encoding/json has no type for this one, and the field is worth naming.
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		field, unquoteErr := strconv.Unquote(quoted)
		if unquoteErr != nil {
			field = quoted
		}
		return &problem{kindUnknownField, "there is no such field", field}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &problem{kindBadJSON, "the body ends before its JSON value does", ""}
	}
	return &problem{kindBadJSON, err.Error(), ""}
}

// WriteJSON answers v with one write that carries its Content-Length.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	return write(w, status, "application/json", v)
}

func write(w http.ResponseWriter, status int, media string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	writeBytes(w, status, media, append(body, '\n'))
	return nil
}

func writeBytes(w http.ResponseWriter, status int, media string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
}

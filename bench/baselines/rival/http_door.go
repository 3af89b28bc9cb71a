package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const bodyBytesMax = 4096

var (
	jsonContent = []string{"application/json"}
	bodies      = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	// Names of PurchaseOutcome, by number.
	outcomeNames = [...]string{
		"UNSPECIFIED", "RESERVED", "SOLD_OUT", "ALREADY_PURCHASED", "NOT_STARTED", "ENDED", "PAUSED",
		"LIMIT_EXCEEDED",
	}
)

func (one *shop) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /v1/sales/{sku}/token", one.issueOverHTTP)
	routes.HandleFunc("POST /v1/sales/{sku}/purchase", one.purchaseOverHTTP)
	routes.HandleFunc("GET /metrics", func(to http.ResponseWriter, _ *http.Request) {
		one.counters.write(to)
	})
	return routes
}

func (one *shop) issueOverHTTP(to http.ResponseWriter, from *http.Request) {
	token, expires, err := one.issue(from.Header.Get("Authorization"), from.PathValue("sku"))
	if err != nil {
		refuse(to, err)
		return
	}
	text, err := json.Marshal(map[string]any{"purchaseToken": token, "expireTime": expires})
	if err != nil {
		refuse(to, err)
		return
	}
	answer(to, text)
}

type attemptBody struct {
	Quantity      int64  `json:"quantity"`
	PurchaseToken string `json:"purchaseToken"`
	RequestID     string `json:"requestId"`
}

// readAttempt reads the body through a buffer that is used again.
func readAttempt(to http.ResponseWriter, from *http.Request) (attemptBody, error) {
	var body attemptBody
	text := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(text)
	text.Reset()
	if _, err := text.ReadFrom(http.MaxBytesReader(to, from.Body, bodyBytesMax)); err != nil {
		return body, err
	}
	return body, json.Unmarshal(text.Bytes(), &body)
}

func (one *shop) purchaseOverHTTP(to http.ResponseWriter, from *http.Request) {
	body, err := readAttempt(to, from)
	if err != nil {
		http.Error(to, "the body is malformed", http.StatusBadRequest)
		return
	}
	outcome, number, err := one.purchase(from.Context(), from.Header.Get("Authorization"), attempt{
		sku: strings.Clone(from.PathValue("sku")), quantity: max(body.Quantity, 1),
		token: []byte(body.PurchaseToken), request: body.RequestID,
	})
	if err != nil {
		refuse(to, err)
		return
	}
	// Two fields that need no escapes: quicker by hand.
	text := append(make([]byte, 0, 80), `{"outcome":"`...)
	text = append(append(text, outcomeNames[outcome]...), `","orderNo":"`...)
	answer(to, append(append(text, number...), `"}`...))
}

func answer(to http.ResponseWriter, text []byte) {
	to.Header()["Content-Type"] = jsonContent
	_, _ = to.Write(text) // who has left needs no answer
}

func refuse(to http.ResponseWriter, err error) {
	code := map[codes.Code]int{
		codes.InvalidArgument:   http.StatusBadRequest,
		codes.Unauthenticated:   http.StatusUnauthorized,
		codes.PermissionDenied:  http.StatusForbidden,
		codes.ResourceExhausted: http.StatusTooManyRequests,
	}[status.Code(err)]
	if code == 0 {
		code = http.StatusServiceUnavailable
	}
	http.Error(to, status.Convert(err).Message(), code)
}

package backend

import (
	"errors"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// statusUnprocessable answers a rotation that was tried and did not complete. It
// is not a 5xx, because the vault client repeats those by itself.
const statusUnprocessable = http.StatusUnprocessableEntity

// errorResponse maps the errors of the domain to answers:
//
//	ErrInvalid   400: the request is wrong and has changed nothing
//	ErrInFlight  409: something else is under way
//	Failure      422: it was tried, and the text says what is true now
//	others       as they are; what Vault does not know is a 500
func errorResponse(err error) (*logical.Response, error) {
	var failure *rotation.Failure
	switch {
	case errors.As(err, &failure):
		return nil, logical.CodedError(statusUnprocessable, failure.Error())
	case errors.Is(err, rotation.ErrInFlight):
		return nil, logical.CodedError(http.StatusConflict, err.Error())
	case errors.Is(err, rotation.ErrInvalid):
		return logical.ErrorResponse(strings.ReplaceAll(err.Error(), rotation.ErrInvalid.Error()+": ", "")), nil
	}
	return nil, err
}

// maxRefusal is the longest text of a refusal, which may repeat the request's.
const maxRefusal = 2 << 10

// brief cuts the text of a refusal.
func brief(resp *logical.Response, err error) (*logical.Response, error) {
	if err == nil && resp.IsError() && len(resp.Error().Error()) > maxRefusal {
		return logical.ErrorResponse(strings.ToValidUTF8(resp.Error().Error()[:maxRefusal], "") + "…"), nil
	}
	return resp, err
}

package acceptance

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestAuditLinesUp follows a rotation from the history to Vault's audit log: as an auditor
// would, by the id of its request and by the version that reads show, which are in clear,
// and by its own id, of which the log has the HMAC until the mount is tuned.
func TestAuditLinesUp(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.orders("alternating_users", nil)
	answer := e.write("rotate", nil)
	e.creds()
	hashed, err := e.client.Sys().AuditHashWithContext(t.Context(), "file", text(answer, "rotation_id"))
	if err != nil {
		t.Fatal(err)
	}
	requestID := text(e.read("history/default/"+text(answer, "rotation_id")), "vault_request_id")
	if _, err := e.client.Logical().WriteWithContext(t.Context(), "sys/mounts/"+e.path+"/tune", map[string]any{"audit_non_hmac_response_keys": "rotation_id"}); err != nil {
		t.Fatal(err)
	}
	tuned := text(e.write("rotate", nil), "rotation_id")
	var byRequest, byID, byVersion, inClear bool
	for _, line := range auditLines(t, e.path+"/") {
		response, _ := line["response"].(map[string]any)
		data, _ := response["data"].(map[string]any)
		request, _ := line["request"].(map[string]any)
		byRequest = byRequest || requestID != "" && request["id"] == requestID && strings.HasSuffix(requestPath(line), "/rotate")
		inClear = inClear || data["rotation_id"] == tuned
		byID = byID || data["rotation_id"] == hashed
		if strings.HasSuffix(requestPath(line), "/creds") && data["version"] != nil {
			byVersion = byVersion || data["version"] == json.Number(answer["version"].(json.Number).String())
			if password := text(data, "db_password"); !strings.HasPrefix(password, "hmac-sha256:") {
				t.Errorf("a password stands in the audit log as %q", password)
			}
		}
	}
	if !byRequest || !byID || !byVersion || !inClear {
		t.Errorf("the audit log shows the request: %t, the rotation's id: %t, in clear: %t, the version that was read: %t", byRequest, byID, inClear, byVersion)
	}
}

// auditLines returns the answers that the audit log has for a mount.
func auditLines(t *testing.T, mount string) []map[string]any {
	t.Helper()
	written, err := shared.vault.AuditLines()
	if err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for _, text := range written {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		line := map[string]any{}
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line["type"] == "response" && strings.HasPrefix(requestPath(line), mount) {
			lines = append(lines, line)
		}
	}
	return lines
}

func requestPath(line map[string]any) string {
	request, _ := line["request"].(map[string]any)
	path, _ := request["path"].(string)
	return path
}

package destination

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// awsVariable names another implementation to run the suite on, such as that of
// moto, which keeps what there is by region.
const awsVariable = "SMVM_SECRETS_MANAGER"

var awsRegions = strings.Fields(`us-east-1 us-east-2 us-west-1 us-west-2 eu-west-1 eu-west-2 eu-west-3 eu-central-1 eu-north-1
	eu-south-1 ap-south-1 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-southeast-1 ap-southeast-2 ca-central-1 sa-east-1 me-south-1`)

var regions atomic.Int64

// inAWS is a Secrets Manager as the suite needs it.
type inAWS struct{ url, region string }

func newAWS(t *testing.T) held {
	t.Helper()
	a := &inAWS{os.Getenv(awsVariable), awsRegions[int(regions.Add(1))%len(awsRegions)]}
	if a.url == "" {
		a.url = testenv.NewSecretsManager(t).URL
	}
	return a
}

const awsKey = "a secret access key, 0123456789"

func (a *inAWS) target(_ *testing.T, address string) Target {
	return &AWSSecretsManager{Region: a.region, Endpoint: address, AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: awsKey}
}

// client goes straight to it.
func (a *inAWS) client(t *testing.T) *secretsmanager.Client {
	t.Helper()
	s, err := a.target(t, a.url).(*AWSSecretsManager).open(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s.client
}

func (a *inAWS) value(t *testing.T, name string) (string, int) {
	t.Helper()
	found, err := a.client(t).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &name, VersionStage: aws.String(awsCurrent)})
	if err != nil {
		return "", 0
	}
	all, err := a.client(t).ListSecretVersionIds(t.Context(), &secretsmanager.ListSecretVersionIdsInput{SecretId: &name, IncludeDeprecated: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(found.SecretString), len(all.Versions)
}

func (a *inAWS) put(t *testing.T, name, value string) {
	t.Helper()
	token := uuid.NewString()
	_, err := a.client(t).PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: &value, ClientRequestToken: &token})
	if err != nil {
		_, err = a.client(t).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value, ClientRequestToken: &token})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (a *inAWS) address() string   { return a.url }
func (a *inAWS) secrets() []string { return []string{awsKey} }
func (a *inAWS) full() answer      { return answer{status: 400, kind: "LimitExceededException"} }
func (a *inAWS) denied() answer    { return answer{status: 400, kind: "AccessDeniedException"} }
func (a *inAWS) reads() bool       { return true }

// labels are the stages of the versions of a secret, by role version.
func (a *inAWS) labels(t *testing.T, name string) map[int][]string {
	t.Helper()
	found, err := a.client(t).DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &name})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[int][]string{}
	for id, stages := range found.VersionIdsToStages {
		labels[versionStamp(id).Version] = stages
	}
	return labels
}

// TestAWSLabels are as AWS's own rotation leaves them.
func TestAWSLabels(t *testing.T) {
	t.Parallel()
	a := newAWS(t).(*inAWS)
	s := &suite{T: t, held: a, to: a.target(t, a.url)}
	s.must(copyAt(1))
	s.must(copyAt(2))
	s.must(copyAt(3))
	labels := a.labels(t, password)
	if !slices.Contains(labels[3], awsCurrent) || !slices.Equal(labels[2], []string{"AWSPREVIOUS"}) || len(labels[1]) > 0 {
		t.Errorf("the labels are %v", labels)
	}
}

// TestAWSDeleted does not publish to what is scheduled for deletion, and says how to
// get it back.
func TestAWSDeleted(t *testing.T) {
	t.Parallel()
	a := newAWS(t).(*inAWS)
	s := &suite{T: t, held: a, to: a.target(t, a.url)}
	s.must(copyAt(1))
	if _, err := a.client(t).DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String(password)}); err != nil {
		t.Fatal(err)
	}
	s.fails(copyAt(2), true, "restore-secret --secret-id "+password)
	s.differs(copyAt(1), "is scheduled for deletion")
}

// TestAWSNonsense is answered as no AWS answers. The engine shares its process with
// others, so none of it may end that.
func TestAWSNonsense(t *testing.T) {
	t.Parallel()
	var nonsense atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, *nonsense.Load())
	}))
	t.Cleanup(server.Close)
	a := newAWS(t).(*inAWS)
	for _, text := range []string{
		"", "{}", "null", "[]", "x", "<", "<a/>", "<AssumeRoleResponse/>", "<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>",
		"<AssumeRoleResponse><AssumeRoleResult><Credentials/></AssumeRoleResult></AssumeRoleResponse>",
		"<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId></Credentials></AssumeRoleResult></AssumeRoleResponse>",
		`{"VersionIdsToStages":{"x":null},"Tags":[{},null],"DeletedDate":null}`, `{"SecretString":null}`,
		strings.Repeat("[", 1<<20), strings.Repeat("<a>", 1<<18), strings.Repeat("x", 2<<20),
	} {
		nonsense.Store(&text)
		for _, role := range []string{"", "arn:aws:iam::123456789012:role/smvm"} {
			to := a.target(t, server.URL).(*AWSSecretsManager)
			to.RoleARN, to.STSEndpoint = role, server.URL
			if err := to.Publish(t.Context(), here, copyAt(1)); err == nil {
				t.Errorf("with role %q, after %.80q it is published", role, text)
			}
			_, _ = to.Compare(t.Context(), here, copyAt(1)) // whatever it says
		}
	}
}

// TestAWSRole assumes a role, and uses what it is given for that.
func TestAWSRole(t *testing.T) {
	t.Parallel()
	var asked url.Values
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		asked = r.PostForm
		if asked.Get("ExternalId") != "orders" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`)
			return
		}
		_, _ = io.WriteString(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIATEMP</AccessKeyId>
			<SecretAccessKey>temporary</SecretAccessKey><SessionToken>of-the-session</SessionToken>
			<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`)
	}))
	t.Cleanup(sts.Close)
	a := newAWS(t).(*inAWS)
	f := newFront(t, a.url)
	f.set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("X-Amz-Security-Token") != "of-the-session" {
			t.Errorf("%s without the credentials of the role", r.Header.Get("X-Amz-Target"))
		}
		next.ServeHTTP(w, r)
	})
	to := a.target(t, f.URL).(*AWSSecretsManager)
	to.RoleARN, to.ExternalID, to.STSEndpoint = "arn:aws:iam::123456789012:role/smvm", "orders", sts.URL
	s := &suite{T: t, held: a, to: to}
	s.must(copyAt(1))
	if asked.Get("RoleArn") != to.RoleARN || asked.Get("DurationSeconds") != "900" {
		t.Errorf("it asked for %v", asked)
	}
	to.ExternalID = "another"
	s.fails(copyAt(2), true, "sts:AssumeRole", to.RoleARN, "permission denied")
}

// Package test lints the chart, renders it over a matrix of values, and decodes
// every object strictly by the types of the Kubernetes API: an unknown or
// misplaced field is an error.
package test

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	chartPath = "../cairn"
	release   = "points"
	namespace = "maps"
)

// kinds are the types that the chart may make.
var kinds = map[string]func() any{
	"v1/Secret":                              func() any { return &corev1.Secret{} },
	"v1/Service":                             func() any { return &corev1.Service{} },
	"v1/ServiceAccount":                      func() any { return &corev1.ServiceAccount{} },
	"v1/Pod":                                 func() any { return &corev1.Pod{} },
	"apps/v1/Deployment":                     func() any { return &appsv1.Deployment{} },
	"v1/ConfigMap":                           func() any { return &corev1.ConfigMap{} },
	"apps/v1/StatefulSet":                    func() any { return &appsv1.StatefulSet{} },
	"batch/v1/Job":                           func() any { return &batchv1.Job{} },
	"autoscaling/v2/HorizontalPodAutoscaler": func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"policy/v1/PodDisruptionBudget":          func() any { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1/Ingress":           func() any { return &networkingv1.Ingress{} },
	"networking.k8s.io/v1/NetworkPolicy":     func() any { return &networkingv1.NetworkPolicy{} },
}

// A choice is one row of the matrix: what it sets, by YAML.
type choice struct{ name, values string }

// matrix is multiplied out: one choice of each line.
var matrix = [][]choice{
	{
		{"bundled", ""},
		{"own database", "database: {existingSecret: points-app}\npostgres: {enabled: false}"},
		{"standbys", "database: {existingSecret: points-app, readSecret: points-read, trimStandbys: 2}\nquery: {maxLag: 10s}"},
		{"own database, bundled left on", "database: {existingSecret: points-app, existingSecretKey: url}"},
	},
	{
		{"default ingress", ""},
		{"host and TLS", "ingress: {className: public, host: points.example.org, tlsSecret: points-tls, annotations: {a: b}}"},
		{"no ingress", "ingress: {enabled: false}"},
	},
	{
		{"autoscaled", ""},
		{"fixed", "query: {replicas: 5, autoscaling: {enabled: false}, podDisruptionBudget: {enabled: false}, preStopSleepSeconds: 0}"},
		{"placed", "query: {nodeSelector: {a: b}, tolerations: [{key: a, operator: Exists}], affinity: {nodeAffinity: {}}}\ningest: {persistence: {storageClass: fast}, nodeSelector: {a: b}}\npostgres: {persistence: {storageClass: fast}}"},
	},
	{
		{"defaults", ""},
		{"own everything", "nats: {existingSecret: mine}\nserviceAccount: {create: false, name: mine}\nnetworkPolicy: {enabled: false}\nimagePullSecrets: [{name: registry}]\nimage: {tag: v1.2.3}\npodAnnotations: {a: b}\nmaxBytes: 8589934592"},
		{"access", "auth: {mode: 'keys,jwt', jwtIssuer: https://issuer.example, jwtAudience: cairn, allowOrigins: [https://maps.example]}\ntrustedProxies: [10.1.0.0/16]\nproxyProtocol: true"},
		{"mqtt", "mqtt: {enabled: true, port: 8883, tlsSecret: mqtt-tls, annotations: {a: b}}\nauth: {mode: keys}"},
		{"device forms", "deviceForms: {tracker: {latitude: [ns], longitude: [ew]}}\npodAnnotations: {a: b}"},
		{"account", "serviceAccount: {annotations: {a: b}}\nlogLevel: debug"},
		{"restoring", "restoring: true"},
		{"three nodes", "ingest: {replicas: 3, preStopSleepSeconds: 5}"},
	},
}

// TestThreeNodes looks at what three nodes of the queue need to find each other, and
// to live through a restart in turn.
func TestThreeNodes(t *testing.T) {
	files := render(t, load(t), parse(t, "ingest: {replicas: 3, preStopSleepSeconds: 5}"))
	all := strings.Join([]string{files["cairn/templates/ingest.yaml"], files["cairn/templates/projector.yaml"], files["cairn/templates/query.yaml"],
		files["cairn/templates/networkpolicy.yaml"], files["cairn/templates/secrets.yaml"]}, "\n")
	for what, text := range map[string]string{
		"every node is a route":                       "points-cairn-ingest-0.points-cairn-nats:6222,points-cairn-ingest-1.points-cairn-nats:6222,points-cairn-ingest-2.points-cairn-nats:6222",
		"roles know every node":                       "nats://points-cairn-ingest-0.points-cairn-nats:4222,nats://points-cairn-ingest-1.points-cairn-nats:4222,nats://points-cairn-ingest-2.points-cairn-nats:4222",
		"the node's name is the pod's":                "fieldPath: metadata.name",
		"they start together":                         "podManagementPolicy: Parallel",
		"the next one waits for the one before":       "minReadySeconds: 10",
		"they reach each other before they are ready": "publishNotReadyAddresses: true",
		"the service has their port":                  "{name: routes, port: 6222, targetPort: routes}",
		"the policy lets them":                        "- ports: [{port: routes}]",
		"they share a password":                       "cluster=$(NATS_CLUSTER)",
		"it is made":                                  "\n  cluster: ",
		"a disruption takes one":                      "maxUnavailable: 1",
		"they are on several machines":                "topologyKey: kubernetes.io/hostname\n          whenUnsatisfiable: DoNotSchedule",
		"the stream has as many copies":               `{name: CAIRN_REPLICAS, value: "3"}`,
		"the grace covers sleep and drain":            "terminationGracePeriodSeconds: 50",
	} {
		if !strings.Contains(all, text) {
			t.Errorf("%s: %q is not in the objects", what, text)
		}
	}
	for _, text := range []string{"6222", "podManagementPolicy", "CAIRN_NODE"} {
		if single := render(t, load(t), parse(t, ""))["cairn/templates/ingest.yaml"]; strings.Contains(single, text) {
			t.Errorf("a single node has %s", text)
		}
	}
}

// TestDeviceForms looks at what ingest reads its forms from.
func TestDeviceForms(t *testing.T) {
	all := render(t, load(t), parse(t, "deviceForms: {tracker: {latitude: [ns], longitude: [ew]}}"))["cairn/templates/ingest.yaml"]
	for what, text := range map[string]string{
		"ingest is told":   "{name: CAIRN_DEVICE_FORMS, value: /forms/forms.json}",
		"they are there":   "configMap: {name: points-cairn-forms}",
		"as they were set": `forms.json: "{\"tracker\":{\"latitude\":[\"ns\"],\"longitude\":[\"ew\"]}}"`,
	} {
		if !strings.Contains(all, text) {
			t.Errorf("%s: %q is not in the objects", what, text)
		}
	}
}

// TestMQTT looks at what devices need to reach ingest, and at what is not there without.
func TestMQTT(t *testing.T) {
	files := render(t, load(t), parse(t, "mqtt: {enabled: true, port: 8883, tlsSecret: points-tls}"))
	all := files["cairn/templates/ingest.yaml"] + files["cairn/templates/networkpolicy.yaml"]
	for what, text := range map[string]string{
		"ingest listens":          `{name: CAIRN_MQTT_LISTEN, value: ":1883"}`,
		"by the secret's":         "{name: CAIRN_MQTT_TLS_CERT, value: /mqtt-tls/tls.crt}",
		"which is there":          "secret: {secretName: points-tls}",
		"the service leads there": "{name: mqtt, port: 8883, targetPort: mqtt}",
		"from outside":            "type: LoadBalancer",
		"the policy lets them":    "- ports: [{port: mqtt}]",
	} {
		if !strings.Contains(all, text) {
			t.Errorf("%s: %q is not in the objects", what, text)
		}
	}
	if plain := render(t, load(t), parse(t, "")); strings.Contains(plain["cairn/templates/ingest.yaml"]+plain["cairn/templates/networkpolicy.yaml"], "mqtt") {
		t.Error("it is there unasked")
	}
}

func load(t testing.TB) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartPath)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// As helm lint --strict: a warning is an error.
func TestLint(t *testing.T) {
	for _, values := range []string{"", "database: {existingSecret: x}", "ingress: {className: public, host: a.example, tlsSecret: s}"} {
		result := lint.AllWithKubeVersion(chartPath, parse(t, values), namespace, nil)
		for _, m := range result.Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", values, m)
			}
		}
	}
}

func TestRender(t *testing.T) {
	c := load(t)
	count := 0
	var each func(int, string, map[string]any)
	each = func(line int, name string, values map[string]any) {
		if line == len(matrix) {
			count++
			check(t, name, render(t, c, values))
			return
		}
		for _, option := range matrix[line] {
			merged := chartutil.MergeTables(parse(t, option.values), values)
			each(line+1, name+"/"+option.name, merged)
		}
	}
	each(0, "", map[string]any{})
	t.Logf("%d combinations", count)
}

func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func render(t testing.TB, c *chart.Chart, values map[string]any) map[string]string {
	t.Helper()
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, chartutil.DefaultCapabilities) // this checks the schema
	if err != nil {
		t.Fatal(err)
	}
	out, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		t.Fatalf("%v with %v", err, values)
	}
	return out
}

// check decodes every object, and that what they name is there.
func check(t *testing.T, name string, files map[string]string) {
	t.Helper()
	services, ports := map[string]bool{}, map[string]bool{}
	var ingresses []*networkingv1.Ingress
	for file, text := range files {
		if strings.HasSuffix(file, "NOTES.txt") {
			if strings.TrimSpace(text) == "" || strings.Contains(text, "<no value>") {
				t.Errorf("%s: notes: %s", name, text)
			}
			continue
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			document, err := documents.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", name, file, err)
			}
			var meta metav1.TypeMeta
			if err := yaml.Unmarshal(document, &meta); err != nil {
				t.Fatalf("%s: %s: %v\n%s", name, file, err, document)
			}
			if meta.Kind == "" { // comments only
				continue
			}
			make, ok := kinds[meta.APIVersion+"/"+meta.Kind]
			if !ok {
				t.Errorf("%s: %s: %s/%s is not expected", name, file, meta.APIVersion, meta.Kind)
				continue
			}
			object := make()
			if err := yaml.UnmarshalStrict(document, object); err != nil {
				t.Errorf("%s: %s: %v\n%s", name, file, err, document)
			}
			switch o := object.(type) {
			case *corev1.Service:
				services[o.Name] = true
				for _, p := range o.Spec.Ports {
					ports[o.Name+":"+p.Name] = true
				}
			case *networkingv1.Ingress:
				ingresses = append(ingresses, o)
			case *appsv1.Deployment:
				secure(t, name, o.Name, o.Spec.Template.Spec)
				selects(t, name, o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template.Labels)
			case *appsv1.StatefulSet:
				secure(t, name, o.Name, o.Spec.Template.Spec)
				selects(t, name, o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template.Labels)
			case *batchv1.Job:
				secure(t, name, o.Name, o.Spec.Template.Spec)
			case *corev1.Pod:
				secure(t, name, o.Name, o.Spec)
			}
		}
	}
	for _, i := range ingresses {
		for _, p := range i.Spec.Rules[0].HTTP.Paths {
			b := p.Backend.Service
			if !ports[b.Name+":"+b.Port.Name] {
				t.Errorf("%s: the Ingress sends %s to %s:%s, which is not there", name, p.Path, b.Name, b.Port.Name)
			}
		}
	}
}

// secure is what Kubernetes calls the restricted standard for pods.
func secure(t *testing.T, name, object string, pod corev1.PodSpec) {
	t.Helper()
	s := pod.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Errorf("%s: %s may be root: %+v", name, object, s)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: %s has a token", name, object)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.Capabilities == nil || fmt.Sprint(s.Capabilities.Drop) != "[ALL]" {
			t.Errorf("%s: %s: %+v", name, object, s)
		}
		if c.Resources.Requests == nil || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: %s has no bound on memory", name, object)
		}
	}
}

func selects(t *testing.T, name, object string, selector, labels map[string]string) {
	t.Helper()
	for k, v := range selector {
		if labels[k] != v {
			t.Errorf("%s: %s does not select its own pods: %s", name, object, k)
		}
	}
}

// What the schema must refuse.
func TestSchema(t *testing.T) {
	c := load(t)
	for _, values := range []string{
		"query: {replica: 3}", "maxBytes: 1", "maxBytes: lots", "logLevel: loud", "replayAge: a day", "ingres: {}",
		"ingest: {persistence: {size: big}}", "query: {autoscaling: {minReplicas: 0}}", "ingest: {replicas: 2}",
		"mqtt: {port: 0}", "mqtt: {serviceType: Public}",
	} {
		if err := chartutil.ValidateAgainstSchema(c, chartutil.CoalesceTables(parse(t, values), c.Values)); err == nil {
			t.Errorf("%s is let in", values)
		}
	}
	if err := chartutil.ValidateAgainstSchema(c, c.Values); err != nil {
		t.Error(err)
	}
}

// Without a database there is nothing to install.
func TestNoDatabase(t *testing.T) {
	c := load(t)
	all, err := chartutil.ToRenderValues(c, parse(t, "postgres: {enabled: false}"), chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (engine.Engine{Strict: true}).Render(c, all); err == nil || !strings.Contains(err.Error(), "database.existingSecret") {
		t.Errorf("it renders: %v", err)
	}
}

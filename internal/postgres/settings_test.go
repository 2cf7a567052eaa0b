package postgres

import (
	"strings"
	"testing"
)

func TestMemoryFollowsTheMachine(t *testing.T) {
	tests := []struct {
		name      string
		megabytes int
		want      string
	}{
		{"not known", 0, "shared_buffers = 256MB\neffective_cache_size = 512MB\n"},
		{"1 GB", 1024, "shared_buffers = 256MB\neffective_cache_size = 768MB\n"},
		{"8 GB", 8192, "shared_buffers = 2048MB\neffective_cache_size = 6144MB\n"},
		{"256 GB", 262144, "shared_buffers = 8192MB\neffective_cache_size = 196608MB\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := memoryOf(tt.megabytes); !strings.HasSuffix(got, tt.want) {
				t.Errorf("%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

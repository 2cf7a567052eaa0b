package schema

import "io/fs"

// Files are the migrations.
func Files() fs.FS { return files }

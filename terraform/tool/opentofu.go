//go:build tools

// Package tool pins the OpenTofu that terraform/check builds where no terraform is installed; go.sum has its checksums.
package tool

import _ "github.com/opentofu/opentofu/cmd/tofu"

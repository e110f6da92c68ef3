//go:build !no_health

package main

import "dubbo.apache.org/dubbo-go/v3/protocol/triple/health"

func init() {
	setServing, setNotServing = health.SetServingStatusServing, health.SetServingStatusNotServing
}

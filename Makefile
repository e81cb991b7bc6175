# Howdah: `make up` starts it, `make test` checks it. Needed beforehand: Go and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
export GOFLAGS ?= -trimpath

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

howdah: $(shell find . -name '*.go' -o -path './internal/web/ui/*' -type f -o -path './internal/lang/catalog/*' -type f -o -name '*.sql' -o -name openapi.json) go.mod go.sum
	CGO_ENABLED=0 $(GO) build -o howdah . # static: it starts 2 ms sooner, which PostgreSQL waits for at every WAL segment

up: howdah ## start PostgreSQL, the chat room and its page (installs PostgreSQL where it is missing)
	./howdah up --install

test: deps check ## all checks and tests on real parts (installs PostgreSQL, pgAudit, Chromium and an S3 server where they are missing)
	@GO="$(GO)" ./.ci/suite

deps: ## what the tests need beside Go
	@./.ci/deps

check: ## format, vet, linter, cross builds, JavaScript types
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'gofmt would change these files'; exit 1; }
	$(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	GOOS=windows $(GO) build -o /dev/null .
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	@./.ci/types

bench: howdah ## measure the chat room (some minutes; a quiet machine is best)
	./howdah bench chat

packages: ## what people install: .deb (amd64, arm64), a zip for Windows, SBOMs and checksums, into dist/ (VERSION=1.2.3 names a release)
	@GO="$(GO)" ./.ci/packages

matrix: ## a build for macOS, the tests of all that touches PostgreSQL on version 17, in a chroot of Debian's next release, and then make installed and make windows (as root; chroots are kept in the cache folder)
	GOOS=darwin $(GO) build -o /dev/null .
	@./.ci/matrix
	@./.ci/installed
	@./.ci/windows

installed: ## the Debian package from nothing to purge, in chroots of Debian 12 and 13 (as root; some minutes)
	@./.ci/installed

windows: ## Howdah on Windows from nothing to uninstall, under Wine in a chroot of Debian 13 (as root; some minutes)
	@GO="$(GO)" ./.ci/windows

torture: ## kill everything at random, 300 rounds of most (some hours)
	$(GO) test ./internal/torture -run 'TestTorture|TestARestoreInPlaceToAnyMoment' -torture.rounds=300 -timeout 6h -v
	$(GO) test ./internal/keeper -run 'TestAPrune|TestAPush' -keeper.kills=2400 -timeout 3h -v

bucket: ## the stories of the keeper once more, with encryption: in a folder, and in S3 (some minutes)
	for repos in age s3; do $(GO) test ./internal/keeper -keeper.repos=$$repos -timeout 60m -run \
	  'TestRestores|TestARestore|TestASegmentThatIsMissing|TestTablespaces|TestWhatALost|TestABackupIsTaken|TestIncrements|TestALostDisk|TestADrillShows|TestAfterAPrune' || exit; done

scenarios: ## plays attacks and their harmless twins against a real house (as root: in a network of its own; a quarter of an hour)
	unshare -n sh -c 'ip link set lo up && ip route add local 10.20.0.0/16 dev lo && ip route add local 198.51.100.0/24 dev lo && \
	  exec $(GO) test ./internal/torture -run TestTheScenariosLive -torture.scenarios=all -timeout 60m -v'

holdout: ## plays the days and attacks of another shop anew, that the watch is measured by (as root; some minutes)
	$(GO) test ./internal/audit/judge -run TestRecordTheHoldOut -judge.record testdata/holdout -timeout 30m -v

pictures: ## the pictures of the guide, anew
	$(GO) test ./internal/e2e -count=1 -run TestGallery -pictures $(CURDIR)/doc/guide/pictures -timeout 30m

fuzz: ## every parser of outside bytes, half a minute each
	$(GO) test ./internal/web -run '^$$' -fuzz FuzzMarkdown -fuzztime 30s
	$(GO) test ./internal/web -run '^$$' -fuzz FuzzFrames -fuzztime 30s
	$(GO) test ./internal/web -run '^$$' -fuzz FuzzForwarded -fuzztime 30s
	$(GO) test ./internal/config -run '^$$' -fuzz FuzzPublicURL -fuzztime 30s
	$(GO) test ./internal/chat -run '^$$' -fuzz FuzzCandidates -fuzztime 30s
	$(GO) test ./internal/files -run '^$$' -fuzz FuzzNames -fuzztime 30s
	$(GO) test ./internal/files -run '^$$' -fuzz FuzzPictures -fuzztime 30s
	$(GO) test ./internal/account -run '^$$' -fuzz FuzzNames -fuzztime 30s
	$(GO) test ./internal/wal -run '^$$' -fuzz FuzzReader -fuzztime 30s
	$(GO) test ./internal/wal -run '^$$' -fuzz FuzzHistory -fuzztime 30s
	$(GO) test ./internal/wal -run '^$$' -fuzz FuzzNames -fuzztime 30s
	$(GO) test ./internal/alert -run '^$$' -fuzz FuzzQueueFile -fuzztime 30s
	$(GO) test ./internal/repo -run '^$$' -fuzz FuzzHead -fuzztime 30s
	$(GO) test ./internal/repo -run '^$$' -fuzz FuzzUnseal -fuzztime 30s
	$(GO) test ./internal/repo -run '^$$' -fuzz FuzzTarSplit -fuzztime 30s -fuzzminimizetime 10x
	$(GO) test ./internal/repo -run '^$$' -fuzz FuzzTarIndex -fuzztime 30s -fuzzminimizetime 10x
	$(GO) test ./internal/audit/judge -run '^$$' -fuzz FuzzStatement -fuzztime 30s
	$(GO) test ./internal/keeper -run '^$$' -fuzz FuzzDSN -fuzztime 30s
	$(GO) test ./internal/keeper -run '^$$' -fuzz FuzzList -fuzztime 30s
	$(GO) test ./internal/audit -run '^$$' -fuzz FuzzParseLine -fuzztime 30s
	$(GO) test ./internal/audit -run '^$$' -fuzz FuzzMask -fuzztime 30s

.PHONY: help up test deps check bench packages matrix installed windows torture bucket scenarios holdout pictures fuzz

# What the workflows in .github/workflows call, beside lint, test and molecule. Everything here runs by hand, too.
.PHONY: lint-ci
lint-ci: $(READY) ## actionlint, zizmor, the schema of Renovate's configuration; offline
	@actionlint
	@zizmor --offline --quiet --persona=pedantic .github
	@check-jsonschema --quiet --builtin-schema vendor.renovate .github/renovate.json

.PHONY: images
images: ## Pull the public images of the stack: `make test` checks the rendered files with them
	@awk '/_image:/ {image = $$2} /_tag:/ && $$2 != "latest" {print image ":" $$2}' roles/*/defaults/main.yml | xargs -n 1 docker pull --quiet

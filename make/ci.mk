# Targets of the workflows in .github/workflows, beside lint, test and molecule. All of them run by hand, too.
.PHONY: lint-ci
lint-ci: $(READY) ## actionlint, zizmor, the schema of Renovate's configuration; offline
	@actionlint
	@zizmor --offline --quiet --persona=pedantic .github
	@check-jsonschema --quiet --builtin-schema vendor.renovate .github/renovate.json

.PHONY: images
images: ## Pull the public images of the stack, for `make real`
	@awk '/_image:/ {image = $$2} /_tag:/ && $$2 != "latest" && image !~ "/wearon/" {print image ":" $$2}' roles/*/defaults/main.yml | xargs -n 1 docker pull --quiet

.PHONY: image-name
image-name: ## Where the worker image is published, as `image=<name>`; read as text, without the password of the vault
	@sed -nE "s/^worker_image: *[\"']?([^\"' ]+).*/image=\1/p" $(or $(INVENTORY),inventory/production)/group_vars/all/*.yml \
	  roles/worker/defaults/main.yml | head -n 1

.PHONY: bridge-name
bridge-name: ## Where the image of the WhatsApp bridge is published and under which tag: neonize's version
	@sed -nE "s/^whatsapp_bridge_image: *(.+)/image=\1/p" roles/whatsapp_bridge/defaults/main.yml
	@sed -nE "s/^neonize==([^ ]+).*/tag=\1/p" requirements/bridge.txt

.PHONY: image-publish
image-publish: ## Give the pushed image IMAGE@DIGEST the tag TAG; prints `version=<tag>@<digest>`
	@docker buildx imagetools create --tag "$(IMAGE):$(TAG)" "$(IMAGE)@$(DIGEST)" >&2
	@tagged=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$(IMAGE):$(TAG)"); \
	  [[ $$tagged == "$(DIGEST)" ]] || { echo "$(IMAGE):$(TAG) is $$tagged, not $(DIGEST)" >&2; exit 1; }
	@echo "version=$(TAG)@$(DIGEST)"

.PHONY: remote
remote: $(INFRA) ## Deploy, roll back or provision with credentials from the environment: scripts/remote.sh
	@bash scripts/remote.sh

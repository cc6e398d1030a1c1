# Deploying it, and proving that deploying works. Uses the same virtual environment as everything else.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MOLECULE_GLOB := tests/molecule/*/molecule.yml
INFRA := $(VENV)/.infra
# One lane: two at once disturb the scenarios' own time limits on two cores, and take about as long.
LANES := site,workers,update_worker

$(INFRA): $(READY) requirements/infra.txt requirements/collections.in requirements.yml
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $$(command -v uv || echo $(BIN)/uv) pip install --quiet --compile-bytecode --require-hashes -r requirements/infra.txt
	@bash scripts/collections.sh $(VENV)
	@touch $@

.PHONY: molecule
molecule: $(INFRA) ## Provision real hosts (systemd containers) and prove that it works; needs root or Docker (SCENARIO=site for one; CHAOS=full: with kills of the first run)
	@bash tests/testbed/up.sh
	@bash tests/testbed/scenarios.sh $(or $(SCENARIO),$(LANES))
	@bash tests/testbed/down.sh

.PHONY: lint-infra
lint-infra: $(INFRA) ## ansible-lint, production profile, offline
	@ANSIBLE_VAULT_PASSWORD_FILE=inventory/production/.vault_password.example ansible-lint --offline --strict

.PHONY: deploy
deploy: $(INFRA) ## Provision the hosts of inventory/production (ARGS="--check --diff", ARGS="--tags nginx", ...)
	@ansible-playbook playbooks/site.yml $(ARGS)

.PHONY: status
status: $(INFRA) ## Show release, queue, books, alerts, certificate, disk, backup and the last deployments on one screen
	@ansible-playbook playbooks/status.yml $(ARGS)

.PHONY: logs
logs: $(INFRA) ## Follow the logs of the server (SERVICE=nginx for one service)
	@bash scripts/ssh.sh sudo docker compose -p wearon -f /opt/wearon/docker-compose.prod.yml --profile worker logs --follow --tail 50 $(SERVICE)

.PHONY: shell
shell: $(INFRA) ## Log in to the server
	@bash scripts/ssh.sh

# One image for all four services. Its argument is the Python module to run:
#   docker build --tag phjob .
#   docker run phjob phjob_scheduler
# The modules are phjob_watcher, phjob_scheduler, phjob_janitor and phjob_pod_manager,
# phjob_runtime.amqp.definitions, which writes RabbitMQ's definitions,
# phjob_runtime.amqp.dead_letters, which shows and replays dead letters, and
# phjob_kube.identity_test, which `helm test` runs.
#
# This file also builds an image of the users' command line:
#   docker build --tag kubectl-phjob --build-arg PACKAGES=kubectl-phjob .
#   docker run --volume ~/.kube:/kube:ro --env KUBECONFIG=/kube/config kubectl-phjob phjob_cli list
#
# BASE needs Python 3.11 or newer with venv, and nothing else.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
# The packages of this workspace to install, with the dependencies of uv.lock.
ARG PACKAGES="phjob-watcher phjob-scheduler phjob-janitor phjob-pod-manager"
# Let pip and uv trust the certificates of the base image.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    UV_SYSTEM_CERTS=1 \
    UV_NO_CACHE=1 \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/phjob
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --disable-pip-version-check "uv==${UV_VERSION}"
WORKDIR /src
# The libraries have a layer of their own, because they change rarely.
COPY pyproject.toml uv.lock ./
COPY shared/core/pyproject.toml shared/core/
COPY shared/kubernetes/pyproject.toml shared/kubernetes/
COPY shared/runtime/pyproject.toml shared/runtime/
COPY services/watcher/pyproject.toml services/watcher/
COPY services/scheduler/pyproject.toml services/scheduler/
COPY services/janitor/pyproject.toml services/janitor/
COPY services/pod-manager/pyproject.toml services/pod-manager/
COPY cli/pyproject.toml cli/
COPY dev/pyproject.toml dev/
RUN /opt/uv/bin/uv sync --locked --no-dev --no-install-workspace $(printf -- ' --package %s' ${PACKAGES})
COPY shared shared
COPY services services
COPY cli cli
RUN /opt/uv/bin/uv sync --locked --no-dev --no-editable $(printf -- ' --package %s' ${PACKAGES})

FROM ${BASE}
COPY --from=build /opt/phjob /opt/phjob
ENV PATH=/opt/phjob/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HTTP_HOST=:: \
    HTTP_PORT=8080
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["python", "-m"]

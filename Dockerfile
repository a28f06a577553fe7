# All four services in one image; the argument says which one runs:
#   docker build --tag phjob .
#   docker run phjob scheduler
# (watcher, scheduler, janitor, pod_manager; shared.definitions, which writes RabbitMQ's definitions; and
# shared.dead, which shows and replays what nobody could handle.)
# The command line of users is built by the same recipe:
#   docker build --tag kubectl-phjob --build-arg PACKAGES=kubectl-phjob .
#   docker run --volume ~/.kube:/kube:ro --env KUBECONFIG=/kube/config kubectl-phjob kubectl_phjob list
#
# BASE needs a Python and its venv, and nothing else.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
# What is installed: distributions of this workspace, at the versions of uv.lock.
ARG PACKAGES="watcher scheduler janitor pod-manager"
# pip and uv trust whom the base trusts.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    UV_SYSTEM_CERTS=1 \
    UV_NO_CACHE=1 \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/phjob
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --disable-pip-version-check "uv==${UV_VERSION}"
WORKDIR /src
# The libraries in a layer of their own: they change seldom.
COPY pyproject.toml uv.lock ./
COPY shared/pyproject.toml shared/
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
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8080
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["python", "-m"]

# One image for the three services and the command. The first stage builds, the second holds what runs: a Python, the
# locked libraries, our wheel. Nothing of the build is in it, and nothing runs as root.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements /src/requirements
RUN python -m venv /opt/restante \
 && /opt/restante/bin/pip install --quiet --require-hashes -r /src/requirements/runtime.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --require-hashes -r /src/requirements/build.txt
COPY . /src
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels /src \
 && /opt/restante/bin/pip install --quiet --no-deps /wheels/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="restante" \
      org.opencontainers.image.description="Self-hosted messaging for people and scripts" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/restante/bin:$PATH PYTHONUNBUFFERED=1 HOME=/home/chat
COPY --from=build /opt/restante /opt/restante
# A named volume takes owner and mode from the folder it is first mounted on.
RUN install -d -o 10001 -g 10001 -m 0700 /home/chat /backups /keys /keys/broker /keys/auth /keys/store \
      /data /data/broker /data/auth /data/store /data/keys /data/keys/broker /data/keys/auth /data/keys/store \
 && install -d -o 10001 -g 10001 -m 0755 /run/restante
USER 10001:10001
WORKDIR /home/chat
ENTRYPOINT ["chat"]
CMD ["serve", "--data", "/data", "--listen", "0.0.0.0:5570"]
EXPOSE 5570
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 CMD ["chat", "--quiet", "--timeout", "4", "health"]

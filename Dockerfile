# The platform on the official Airflow image of the locked version. The services' full commands are in docker-compose.yaml.
# With `--build-arg SPARK=1` it can also build windows on Spark: PySpark, and Java, which Spark runs in.
FROM apache/airflow:3.3.2-python3.11
ARG SPARK=

USER root
RUN install -d -o airflow -g 0 -m 775 /opt/sbr /srv/sbr/store /srv/sbr/mlflow
RUN if [ -n "$SPARK" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*; \
    fi
USER airflow

WORKDIR /opt/sbr
COPY --chown=airflow:0 requirements.lock pyproject.toml README.md LICENSE ./
# Only what production needs, in the versions and with the hashes of the lock, which also contains developers' tools.
RUN uv pip install --no-cache --require-hashes --constraints requirements.lock -r pyproject.toml --extra stack ${SPARK:+--extra spark}
COPY --chown=airflow:0 sbr_tasks sbr_tasks
COPY --chown=airflow:0 dags dags
COPY --chown=airflow:0 plugins plugins
COPY --chown=airflow:0 tools tools
RUN uv pip install --no-cache --no-deps --build-constraints requirements.lock . && \
    python -m compileall -q sbr_tasks dags plugins tools

# The image's own start script waits for the database, which the service `init` has to create first.
ENTRYPOINT []
CMD ["airflow", "version"]

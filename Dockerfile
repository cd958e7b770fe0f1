# The platform on the official Airflow image of the locked version. The services' whole commands stand in docker-compose.yaml.
FROM apache/airflow:3.3.2-python3.12

USER root
RUN install -d -o airflow -g 0 -m 775 /opt/sbr /srv/sbr/store /srv/sbr/mlflow
USER airflow

WORKDIR /opt/sbr
COPY --chown=airflow:0 requirements.lock pyproject.toml README.md LICENSE ./
RUN uv pip install --no-cache --require-hashes -r requirements.lock
COPY --chown=airflow:0 sbr_tasks sbr_tasks
COPY --chown=airflow:0 dags dags
COPY --chown=airflow:0 plugins plugins
COPY --chown=airflow:0 tools tools
RUN uv pip install --no-cache --no-deps --no-build-isolation . && python -m compileall -q sbr_tasks dags plugins tools

# The image's own start script waits for the database, which the service `init` has to create first.
ENTRYPOINT []
CMD ["airflow", "version"]

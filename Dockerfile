# The platform on the official Airflow image of the locked version.
FROM apache/airflow:3.3.2-python3.12

WORKDIR /opt/sbr
COPY --chown=airflow:0 requirements.lock pyproject.toml README.md LICENSE ./
RUN uv pip install --no-cache --require-hashes -r requirements.lock
COPY --chown=airflow:0 sbr_tasks sbr_tasks
COPY --chown=airflow:0 dags dags
COPY --chown=airflow:0 plugins plugins
COPY --chown=airflow:0 tools tools
RUN uv pip install --no-cache --no-deps --no-build-isolation .

ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/sbr/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/sbr/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False
USER root
RUN install -d -o airflow -g 0 /srv/sbr/store /opt/airflow/passwords
USER airflow

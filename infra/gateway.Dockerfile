# The gateway, built from the repository's root:
#   docker build -f infra/gateway.Dockerfile -t yapit-gateway .
# It listens on all interfaces of its container, and so wants GATEWAY_API_KEYS.
FROM python:3.12-slim

RUN useradd --create-home gateway
WORKDIR /app
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PYTHONPATH=/app GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8000

COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; print(*p['dependencies'], *e['gateway'], *e['modal'], sep='\n')" \
    | pip install -c constraints.txt -r /dev/stdin
COPY yapit yapit
# of the functions it reads what they say of themselves; their code is never imported
COPY functions functions
COPY tts_processors.json ./

USER gateway
EXPOSE 8000
CMD ["python", "-m", "yapit.gateway"]

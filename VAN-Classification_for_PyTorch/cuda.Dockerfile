# A CUDA host with NVIDIA's container toolkit: docker build -f cuda.Dockerfile -t modelzoo-cuda .      docker run --gpus all ...
FROM python:3.11-slim
WORKDIR /modelzoo
COPY requirements.txt .
# PyPI's torch brings CUDA's libraries; the driver is the host's
RUN pip install --no-cache-dir -r requirements.txt
COPY . .

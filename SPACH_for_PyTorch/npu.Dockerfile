# An Ascend host: docker build -f npu.Dockerfile -t modelzoo-npu .      The driver is the host's, see USAGE.md
# Images for other chips and systems: https://quay.io/repository/ascend/cann
ARG CANN_IMAGE=quay.io/ascend/cann:9.1.0-910b-ubuntu22.04-py3.12
FROM ${CANN_IMAGE}
WORKDIR /modelzoo
COPY requirements.txt npu_requirements.txt ./
RUN pip install --no-cache-dir -r npu_requirements.txt
COPY . .

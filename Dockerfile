# Two images: --target sidecar, the member without the operator's dependencies, and --target operator. The base has to
# bring Python 3.11 or newer as python3, with pip and venv; the same base is built in and run from, because a virtual
# environment points at its interpreter. Nothing is compiled: every dependency comes as a wheel of the lock.
#
# A tag moves. Give the base by its digest for images that matter (docs/supply-chain.md):
#   make images REGISTRY=registry.example.org/team BASE_IMAGE=python:3.11-slim-bookworm@sha256:DIGEST
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS libraries
WORKDIR /build
COPY requirements-member.lock ./
RUN python3 -m venv --without-pip /opt/wavekv \
    && python3 -m pip --python /opt/wavekv/bin/python install --quiet --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes --requirement requirements-member.lock

FROM libraries AS operator-libraries
COPY requirements-operator.lock ./
RUN python3 -m pip --python /opt/wavekv/bin/python install --quiet --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes --requirement requirements-operator.lock

# Our package beside its libraries, one command, and byte code, because a read-only root file system cannot get it later.
# Left out is what no process imports: the libraries' own tests and commands, stubs, the sources of extensions.
FROM libraries AS sidecar-tree
COPY sidecar/wavekv /build/wavekv
RUN cp -r wavekv /opt/wavekv/lib/python3*/site-packages/ \
    && find /opt/wavekv/bin -type f -delete \
    && printf '#!/opt/wavekv/bin/python\nfrom wavekv.__main__ import main\nraise SystemExit(main())\n' \
        > /opt/wavekv/bin/wavekv \
    && chmod 0755 /opt/wavekv/bin/wavekv \
    && find /opt/wavekv/lib \( -name tests -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) \
        -prune -exec rm -rf {} + \
    && /opt/wavekv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/wavekv/lib

# The Kubernetes client has thousands of modules and loads few: those get byte code when the final stage starts it.
FROM operator-libraries AS operator-tree
COPY operator/wavekv_operator /build/wavekv_operator
RUN cp -r wavekv_operator /opt/wavekv/lib/python3*/site-packages/ \
    && find /opt/wavekv/bin -type f -delete \
    && printf '#!/opt/wavekv/bin/python\nfrom wavekv_operator.__main__ import main\nraise SystemExit(main())\n' \
        > /opt/wavekv/bin/wavekv-operator \
    && chmod 0755 /opt/wavekv/bin/wavekv-operator \
    && find /opt/wavekv/lib \( -name tests -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) \
        -prune -exec rm -rf {} + \
    && /opt/wavekv/bin/python -m compileall -q -x /kubernetes/ --invalidation-mode unchecked-hash /opt/wavekv/lib

# What both images run on: the base without its package installer, with a name for the user. Files that run with another
# user's rights are none of a member's business: their bits go, and the last step of each image fails if one is left.
FROM ${BASE_IMAGE} AS stripped
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/lib/python3/dist-packages/* /usr/local/bin/pip* /usr/bin/pip* \
        /usr/share/python-wheels /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip \
    && echo 'wavekv:x:65532:65532::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'wavekv:x:65532:' >> /etc/group \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# One layer, so that what was removed is gone.
FROM scratch AS runtime
COPY --from=stripped / /
ENV PATH=/opt/wavekv/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8

FROM runtime AS operator
COPY --from=operator-tree /opt/wavekv /opt/wavekv
# A broken image is not built, and modules that have no byte code yet (in some bases the standard library's) get it.
RUN python -c 'import wavekv_operator.handlers' && wavekv-operator crd > /dev/null \
    && test -z "$(find / -xdev -type f -perm /6000)"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["wavekv-operator"]
CMD ["run"]

FROM runtime AS sidecar
COPY --from=sidecar-tree /opt/wavekv /opt/wavekv
RUN wavekv serve --help > /dev/null && test -z "$(find / -xdev -type f -perm /6000)"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["wavekv"]
CMD ["serve"]

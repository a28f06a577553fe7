module phjob.dev/tools/load

go 1.26.0

tool phjob.dev/tools/load

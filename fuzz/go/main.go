// What Go makes of the documents of a container store, for the fuzz target store_json: a line "KIND HEX" in, a line
// of JSON out. Records are read with json-iterator, as containers-storage reads them, or with encoding/json, if the kind
// ends with "-std", as newer ones may; the rest with encoding/json, as podman does. Needs Debian's golang-go and golang-github-json-iterator-go-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o oracle main.go
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	jsoniter "github.com/json-iterator/go"
)

// storage/images.go
type image struct {
	ID              string            `json:"id"`
	Digest          string            `json:"digest,omitempty"`
	Names           []string          `json:"names,omitempty"`
	NamesHistory    []string          `json:"names-history,omitempty"`
	TopLayer        string            `json:"layer,omitempty"`
	MappedTopLayers []string          `json:"mapped-layers,omitempty"`
	Metadata        string            `json:"metadata,omitempty"`
	BigDataNames    []string          `json:"big-data-names,omitempty"`
	BigDataSizes    map[string]int64  `json:"big-data-sizes,omitempty"`
	BigDataDigests  map[string]string `json:"big-data-digests,omitempty"`
}

// storage/layers.go
type layer struct {
	ID                 string                 `json:"id"`
	Names              []string               `json:"names,omitempty"`
	Parent             string                 `json:"parent,omitempty"`
	Metadata           string                 `json:"metadata,omitempty"`
	MountLabel         string                 `json:"mountlabel,omitempty"`
	CompressedDigest   string                 `json:"compressed-diff-digest,omitempty"`
	CompressedSize     int64                  `json:"compressed-size,omitempty"`
	UncompressedDigest string                 `json:"diff-digest,omitempty"`
	UncompressedSize   int64                  `json:"diff-size,omitempty"`
	TOCDigest          string                 `json:"toc-digest,omitempty"`
	CompressionType    int                    `json:"compression,omitempty"`
	UIDs               []uint32               `json:"uidset,omitempty"`
	GIDs               []uint32               `json:"gidset,omitempty"`
	Flags              map[string]interface{} `json:"flags,omitempty"`
	BigDataNames       []string               `json:"big-data-names,omitempty"`
}

// storage/containers.go
type container struct {
	ID             string            `json:"id"`
	Names          []string          `json:"names,omitempty"`
	ImageID        string            `json:"image"`
	LayerID        string            `json:"layer"`
	Metadata       string            `json:"metadata,omitempty"`
	BigDataNames   []string          `json:"big-data-names,omitempty"`
	BigDataSizes   map[string]int64  `json:"big-data-sizes,omitempty"`
	BigDataDigests map[string]string `json:"big-data-digests,omitempty"`
}

// podman, libpod/storage.go
type metadata struct {
	ImageName     string `json:"image-name"`
	ImageID       string `json:"image-id"`
	ContainerName string `json:"name"`
}

// image-spec, v1
type descriptor struct {
	MediaType string `json:"mediaType,omitempty"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
	Manifests     []descriptor `json:"manifests"`
}

// What of a list decides which images are found by it: an index of OCI and a list of Docker have it alike. Fields of
// other types make podman read less of them.
type index struct {
	Manifests []struct {
		Digest string `json:"digest"`
	} `json:"manifests"`
}

func texts(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func list(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

func read(kind string, bytes []byte) (interface{}, error) {
	unmarshal := jsoniter.ConfigCompatibleWithStandardLibrary.Unmarshal
	if strings.HasSuffix(kind, "-std") {
		kind, unmarshal = strings.TrimSuffix(kind, "-std"), json.Unmarshal
	}
	all := []interface{}{}
	switch kind {
	case "index":
		var i index
		if err := json.Unmarshal(bytes, &i); err != nil {
			return nil, err
		}
		for _, d := range i.Manifests {
			all = append(all, d.Digest)
		}
	case "layers":
		var layers []*layer
		if err := unmarshal(bytes, &layers); err != nil {
			return nil, err
		}
		for _, l := range layers {
			// storage/layers.go, "layerHasIncompleteFlag"
			incomplete, _ := l.Flags["incomplete"].(bool)
			all = append(all, []interface{}{l.ID, l.Parent, l.UncompressedDigest, l.TOCDigest, incomplete})
		}
	case "images":
		var images []*image
		if err := unmarshal(bytes, &images); err != nil {
			return nil, err
		}
		for _, i := range images {
			all = append(all, []interface{}{i.ID, i.TopLayer, list(i.MappedTopLayers), list(i.Names),
				list(i.BigDataNames), i.Digest, texts(i.BigDataDigests)})
		}
	case "containers":
		var containers []*container
		if err := unmarshal(bytes, &containers); err != nil {
			return nil, err
		}
		for _, c := range containers {
			var m metadata
			if c.Metadata != "" {
				if err := json.Unmarshal([]byte(c.Metadata), &m); err != nil {
					return nil, err
				}
			}
			all = append(all, []interface{}{c.ID, c.ImageID, c.LayerID, m.ImageName})
		}
	default:
		var m manifest
		if err := json.Unmarshal(bytes, &m); err != nil {
			return nil, err
		}
		digests := func(all []descriptor) []string {
			found := []string{}
			for _, d := range all {
				found = append(found, d.Digest)
			}
			return found
		}
		return []interface{}{m.Config.Digest, digests(m.Layers), digests(m.Manifests)}, nil
	}
	return all, nil
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		kind, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		bytes, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		value, err := read(kind, bytes)
		if err != nil {
			value = err.Error()
		}
		out, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(out))
	}
}
